/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that converts memory: random pieces of 4K to 2M of 1 GiB that is scattered over a
 * range of 16 GiB; and the resulting shared memory.
 *
 *   workload.c   the pieces, the model, and its comparison with the page table
 *   piecewise.c  the same on type1, which has no page states, with mappings
 *   states.c     options, the measurements, one JSON line for each
 */
#ifndef PGSIZE_WORKLOAD_H
#define PGSIZE_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm.h"

#define RANGE		GIB(16)		/* the mapped range, ... */
#define BLOCKS		512		/* ... of which this many 2M are converted, evenly spread */
#define BLOCK_PAGES	512
#define SPREAD		(RANGE / BLOCKS)
#define ALL_PAGES	(BLOCKS * BLOCK_PAGES)
#define AT		GIB(64)

/* Pages are numbered within the converted memory only. */
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

/* RANGE bytes of 2M huge pages, of which those that were touched are present. */
problem workload_memory(struct memory *memory);

void workload_start(struct workload *workload, struct memory memory);
/* The next piece, which updates the model. All sizes convert the same number of bytes. */
struct piece workload_next(struct workload *workload);
void workload_note(struct workload *workload, struct piece piece);

/*
 * Whether leaves, locked and pinned memory equal the model, with one mapping. With the oracle,
 * which takes time, too.
 */
problem workload_agrees(const struct workload *workload, struct vmm *vmm, bool ask_oracle);

/* Ways to do this on type1. */
enum manner {
	PER_PIECE,	/* one for each piece that becomes shared; the rest is mapped again */
	PER_PAGE,	/* a mapping for each 4K, as QEMU's RamDiscardManager does */
};

struct piecewise {
	uint64_t changes;	/* completed, until an error or the end */
	uint64_t instructions;
	uint64_t mappings;
	uint64_t pages_lost;	/* pages that stayed shared but were unmapped for a while */
	int error;
};

/* Start over, and make at most this many changes. */
problem piecewise_run(struct workload *workload, struct vmm *vmm, enum manner manner,
		      uint64_t changes, struct piecewise *result);

#endif
