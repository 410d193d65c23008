/* SPDX-License-Identifier: GPL-2.0 */
/* What a guest's calls cost, in instructions (vm.py --icount): the least of several times. */
#ifndef SNP_COST_H
#define SNP_COST_H

#include <stdbool.h>
#include <stdint.h>

#include "guest.h"
#include "problem.h"

/*
 * Wait for the clock to count ours alone: shortly after boot interrupts may take
 * more of the processor than we do. False: it does not count instructions.
 */
bool wait_until_counting(void);

/* The ioctls on a 2M, all that hangs on them included. */
struct cost {
	uint64_t smash;		/* of its 2M entry, ... */
	uint64_t whole;		/* ... and the assignment of it as a 2M, after all of it was shared */
};

/* Of the 2M at `gpa`, which is shared, and is so again in the end. */
problem cost_of(struct guest *guest, uint64_t gpa, struct cost *cost);

/* How much dearer: 0 if not. */
struct cost cost_beyond(struct cost cost, struct cost base);

#define COST_ROUNDS	8

/* At most: what a container that maps the 2M adds to its smash, split, flush and a lock let go. */
#define SPLIT_COST	4100

#endif
