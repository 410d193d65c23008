/* SPDX-License-Identifier: GPL-2.0 */
/* Calls that threads make, and one that is held while it waits for memory, by a gate. */
#ifndef SNP_CALLS_H
#define SNP_CALLS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "problem.h"

/* The work of a thread that has to wait. */
struct call {
	pthread_t thread;
	int container;
	enum { MAP, UNMAP, STATE } what;
	uint64_t iova;
	const void *va;
	uint64_t size;		/* for UNMAP, on return: the unmapped bytes */
	uint32_t flags;		/* for MAP or UNMAP; for STATE the state */
	int ret;
	bool returned;
};

problem call_begin(struct call *call);
bool call_has_returned(const struct call *call);

/* A MAP or STATE begins, and waits until an unmap. */
problem call_hold(struct call *call);
/* It continues, and ends. Was it held until now? */
problem call_let_go(struct call *call);
/* It ends, after an unmap. Was it held until then? */
problem call_end(struct call *call);

int change_state(int container, uint64_t iova, uint64_t size, uint32_t state);

#endif
