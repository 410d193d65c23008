/* SPDX-License-Identifier: GPL-2.0 */
/* What happens in the life of a guest, in this order. */
#ifndef SNP_PHASES_H
#define SNP_PHASES_H

#include "life.h"
#include "problem.h"

/* When may DMA to shared pages fail? */
enum hazard {
	NEVER,		/* in no 2M with a shared page is one assigned */
	AT_TIMES,	/* in some there is; the device may or may not go there */
	SURELY,		/* and there the device is sent */
};

struct phase {
	const char *name;
	problem (*run)(struct life *life);
	enum hazard hazard;	/* to leaves of 2M and more; there is none to small ones */
};

#define NR_PHASES	8
extern const struct phase phases[NR_PHASES];

/* The least that a smash cost, in ticks of instructions(). */
extern uint64_t cost_of_smash;

#endif
