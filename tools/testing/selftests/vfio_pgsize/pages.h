/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A stateful mapping, and a model of it: which pages are shared, their frames when they
 * became shared, and the resulting leaves.
 */
#ifndef VFIO_PGSIZE_PAGES_H
#define VFIO_PGSIZE_PAGES_H

#include <stdbool.h>

#include "vmm.h"

#define STATEFUL	VFIO_PGSIZE_MAP_STATEFUL
#define SHARED		VFIO_PGSIZE_STATE_SHARED
#define PRIVATE		VFIO_PGSIZE_STATE_PRIVATE

struct pages {
	struct vmm *vmm;
	struct account before;
	uint64_t iova;
	uint8_t *va;
	uint64_t nr;
	uint64_t nr_shared;
	uint64_t sizes;		/* the policy's leaf sizes; exactly these, unless any */
	uint64_t *frame;	/* of each page while it is shared; otherwise 0 */
	long others;		/* pages of other mappings, which are locked and pinned, too */
	long pinned;		/* pages that others have pinned since then */
};

/* One change, at an offset into the mapping. */
struct change {
	uint64_t at;
	uint64_t size;
	uint32_t state;
};

#define CHANGES(...)							\
	(const struct change[]){ __VA_ARGS__ },				\
	sizeof((const struct change[]){ __VA_ARGS__ }) / sizeof(struct change)

/* A model of memory that is about to be mapped, all private. */
problem pages_start(struct pages *pages, struct vmm *vmm, uint64_t iova,
		    const struct memory *memory, uint64_t sizes);
/* Map the memory, all private or all shared, under a policy of the container. */
problem pages_map(struct pages *pages, struct vmm *vmm, uint64_t iova, const struct memory *memory,
		  uint64_t sizes, uint32_t state);
problem pages_unmap(struct pages *pages);
void pages_free(struct pages *pages);

/* Change the state of pages with one call, which must complete. */
problem pages_batch(struct pages *pages, const struct change *changes, uint32_t nr);
problem pages_set(struct pages *pages, uint64_t at, uint64_t size, uint32_t state);
/* The call fails with this error, after exactly `done` completed changes. */
problem pages_batch_fails(struct pages *pages, const struct change *changes, uint32_t nr, int error,
			  uint32_t done);
/* Put a call's changes into the model; in the call's format. */
problem pages_note(struct pages *pages, const struct change *changes, uint32_t nr);
void pages_changes(const struct pages *pages, const struct change *changes, uint32_t nr,
		   struct vfio_pgsize_state *into);

/* Append the leaves of the model; QUERY's report with private pages. */
void pages_leaves(const struct pages *pages, struct leaves *leaves);
void pages_states(const struct pages *pages, struct leaves *leaves);

/*
 * Whether leaves, states, GET_STATS, locked and pinned memory equal the model, by the module
 * only, or by the oracle, too. No other mapping is stateful.
 */
problem pages_agree_quickly(const struct pages *pages);
problem pages_agree(const struct pages *pages);

#endif
