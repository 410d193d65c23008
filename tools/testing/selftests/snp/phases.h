/* SPDX-License-Identifier: GPL-2.0 */
/* The phases of a guest's life, in order. */
#ifndef SNP_PHASES_H
#define SNP_PHASES_H

#include "life.h"
#include "problem.h"

/* When DMA to shared pages may fail. */
enum hazard {
	NEVER,		/* no 2M has both shared and assigned pages */
	AT_TIMES,	/* some have; the device may or may not access them */
	SURELY,		/* some have, and the device is sent there */
};

struct phase {
	const char *name;
	problem (*run)(struct life *life);
	enum hazard hazard;	/* for leaves of 2M and more; never for small ones */
};

#define NR_PHASES	8
extern const struct phase phases[NR_PHASES];

/* The minimum cost of a smash, in ticks of instructions(). */
extern uint64_t cost_of_smash;

#endif
