/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pieces that are mapped and unmapped, and a model of them: each page is of a kind of
 * memory, and of a piece. Leaves, locked and pinned memory, joined mappings, errors and
 * sizes are to be as the model says.
 */
#ifndef VFIO_PGSIZE_PIECES_H
#define VFIO_PGSIZE_PIECES_H

#include <stdbool.h>

#include "vmm.h"

#define MAX_KINDS	8

/* Parameters with which mappings are joined in containers of type1's types; and are not. */
#define JOIN_OFF	"serve_type1=1 serve_type1v2=1"
#define JOIN_ON		JOIN_OFF " join_mappings=1"

/* What is joined if it is mapped alike. */
struct kind {
	uint8_t *va;		/* of the first page */
	uint32_t flags;		/* READ, WRITE */
};

struct pieces {
	struct vmm *vmm;
	uint64_t iova;
	uint32_t nr;
	uint32_t flags;		/* of MAP_DMA, for what is to be joined */
	bool parts;		/* UNMAP_DMA takes parts of pieces */
	bool whole;		/* it takes pieces that begin in its range, as a whole */
	struct kind kinds[MAX_KINDS];
	uint32_t nr_kinds;
	struct page {
		uint8_t kind;	/* 0: not mapped; else 1 more than its index */
		bool joined;
		bool start;	/* a piece begins here */
	} *pages;
	uint32_t nr_mapped;
	uint32_t random;
	uint32_t calls[2][3];	/* made: map, unmap; done, EEXIST or EINVAL, ENOMEM */
};

/* `nr` pages from `iova` on; the container's policy is 4K and 2M from now on. */
problem pieces_start(struct pieces *pieces, struct vmm *vmm, unsigned long type, uint64_t iova,
		     uint32_t nr);
void pieces_free(struct pieces *pieces);
/* Memory for all of the range, from now on one more kind. */
void pieces_kind(struct pieces *pieces, const void *va, uint32_t flags);

/* Make a call; the model says how it is to end. With `may_fail`, with ENOMEM, too. */
problem pieces_map(struct pieces *pieces, uint32_t kind, uint32_t first, uint32_t nr);
problem pieces_unmap(struct pieces *pieces, uint32_t first, uint32_t nr);
problem pieces_map_may_fail(struct pieces *pieces, uint32_t kind, uint32_t first, uint32_t nr,
			    bool *failed);
problem pieces_unmap_may_fail(struct pieces *pieces, uint32_t first, uint32_t nr, bool *failed);
/* Of two kinds: a 2M of pieces of 256K, single pages, and a large piece; the range has four 2M. */
problem pieces_map_some(struct pieces *pieces);
/* Each piece is a mapping of its own from now on, in the model alone. */
void pieces_separate(struct pieces *pieces);
/* What is mapped of these pages goes from the model alone; returns how many that is. */
uint32_t pieces_forget(struct pieces *pieces, uint32_t first, uint32_t nr);
/* One at random: mostly single pages, some pieces, some large ranges. */
problem pieces_random(struct pieces *pieces);
uint32_t pieces_below(struct pieces *pieces, uint32_t limit);

/* Is all as the model says? Quickly: without leaves. */
problem pieces_agree_quickly(struct pieces *pieces);
problem pieces_agree(struct pieces *pieces);
/* Has each page that is mapped a leaf of 4K? */
problem pieces_are_small(struct pieces *pieces);

#endif
