/* SPDX-License-Identifier: GPL-2.0 */
/* The gates of the module's test build: see rust/sys/testing.h. */
#ifndef SNP_GATES_H
#define SNP_GATES_H

#include "../../../../rust/sys/testing.h"
#include "problem.h"

/* Pairs of steps: who comes by the first waits until somebody is at the second. {}: none. */
struct gates {
	int numbers[2 * PGSIZE_GATES];
	int nr;
};

void gates_add(struct gates *gates, int waiter, int awaited);
/* In force, and nothing seen yet. */
problem gates_set(const struct gates *gates);

/* In which order steps were reached and passed, from 1 on; 0: not yet. */
struct seen {
	unsigned int reached[PGSIZE_STEPS];
	unsigned int passed[PGSIZE_STEPS];
	unsigned long given_up;		/* bit by bit: steps where waiting was in vain */
};

/*
 * How often an order is tried again where somebody was too slow: processors are emulated, on a
 * host that may be busy, and the hook cannot wait for long.
 */
#define GATES_TRIES	200

problem gates_see(struct seen *seen);
problem gates_wait(int step);

const char *gates_name(int step);

#endif
