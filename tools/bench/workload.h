/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that converts memory: pieces of 4K to 2M, at random, of 1 GiB that lies
 * scattered in a range of 16 GiB; and what is shared in the end.
 *
 *   workload.c   the pieces, the model, and its comparison with the page table
 *   piecewise.c  the same on type1, which has no states: mappings come and go
 *   states.c     options, the measurements, one JSON line for each
 */
#ifndef PGSIZE_WORKLOAD_H
#define PGSIZE_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm.h"

#define RANGE		GIB(16)		/* that is mapped, ... */
#define BLOCKS		512		/* ... of which so many 2M are converted, evenly spread */
#define BLOCK_PAGES	512
#define SPREAD		(RANGE / BLOCKS)
#define ALL_PAGES	(BLOCKS * BLOCK_PAGES)
#define AT		GIB(64)

/* Pages are counted within what is converted: the range's other pages have no number. */
static inline uint64_t offset_of(uint64_t page)
{
	return page / BLOCK_PAGES * SPREAD + page % BLOCK_PAGES * 4096;
}

struct piece {
	uint64_t first;
	uint64_t pages;
	bool share;
};

struct workload {
	uint64_t random;
	struct memory memory;
	uint8_t shared[ALL_PAGES];
	uint64_t nr_shared;
};

/* RANGE bytes of huge pages of 2M, of which those are there that were touched. */
problem workload_memory(struct memory *memory);

void workload_start(struct workload *workload, struct memory memory);
/* The next piece: all sizes convert the same number of bytes; and put it into the model. */
struct piece workload_next(struct workload *workload);
void workload_note(struct workload *workload, struct piece piece);

/*
 * Do leaves, locked and pinned memory equal the model, and is it one mapping? With the
 * oracle, which takes its time, too.
 */
problem workload_agrees(const struct workload *workload, struct vmm *vmm, bool ask_oracle);

/* What a VMM does on type1. */
enum manner {
	PER_PIECE,	/* a mapping for what is shared at once; what stays of it is mapped anew */
	PER_PAGE,	/* a mapping for each 4K, as QEMU's RamDiscardManager has it */
};

struct piecewise {
	uint64_t changes;	/* done, until it failed, or there were no more */
	uint64_t instructions;
	uint64_t mappings;
	uint64_t pages_lost;	/* that stay shared, and were not mapped for a while */
	int error;
};

/* Start afresh, and make up to so many changes. */
problem piecewise_run(struct workload *workload, struct vmm *vmm, enum manner manner,
		      uint64_t changes, struct piecewise *result);

#endif
