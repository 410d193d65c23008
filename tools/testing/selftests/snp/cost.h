/* SPDX-License-Identifier: GPL-2.0 */
/* The cost of a guest's calls in instructions (vm.py --icount): the minimum of several. */
#ifndef SNP_COST_H
#define SNP_COST_H

#include <stdbool.h>
#include <stdint.h>

#include "guest.h"
#include "problem.h"

/*
 * Wait until the clock counts only this program: shortly after boot interrupts may take
 * most of the processor. False: it does not count instructions.
 */
bool wait_until_counting(void);

/* The ioctls on a 2M, with everything that they trigger. */
struct cost {
	uint64_t smash;		/* of its 2M entry, ... */
	uint64_t whole;		/* ... and its assignment as a 2M, after all of it was shared */
};

/* For the 2M at `gpa`, which is shared before and after. */
problem cost_of(struct guest *guest, uint64_t gpa, struct cost *cost);

/* The additional cost: 0 if none. */
struct cost cost_beyond(struct cost cost, struct cost base);

#define COST_ROUNDS	8

/* Maximum that a container with the 2M adds to its smash: split, flush, an unlock. */
#define SPLIT_COST	4100

#endif
