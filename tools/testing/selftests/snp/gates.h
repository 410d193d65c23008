/* SPDX-License-Identifier: GPL-2.0 */
/* The gates of the module's test build: see rust/sys/testing.h. */
#ifndef SNP_GATES_H
#define SNP_GATES_H

#include "../../../../rust/sys/testing.h"
#include "problem.h"

/* Pairs of steps: a thread at the first waits until a thread is at the second. {}: none. */
struct gates {
	int numbers[2 * PGSIZE_GATES];
	int nr;
};

void gates_add(struct gates *gates, int waiter, int awaited);
/* In effect, with empty records. No gates: whoever waits continues. */
problem gates_set(const struct gates *gates);

/* The order in which steps were reached and passed, from 1; 0: not yet. */
struct seen {
	unsigned int reached[PGSIZE_STEPS];
	unsigned int passed[PGSIZE_STEPS];
	unsigned long given_up;		/* bitmap of steps where a wait was given up */
};

/*
 * How often an order is repeated if a thread was too slow for one that waits in the hook, which
 * cannot wait long: processors are emulated on a host that may be busy.
 */
#define GATES_TRIES	200

problem gates_see(struct seen *seen);
/* No wait was given up. */
problem gates_worked(void);
problem gates_wait(int step);

const char *gates_name(int step);

#endif
