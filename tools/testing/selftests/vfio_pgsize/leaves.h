/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Leaves: those that a test expects, computed only from physical addresses, and those that
 * VFIO_PGSIZE_QUERY reports.
 */
#ifndef VFIO_PGSIZE_LEAVES_H
#define VFIO_PGSIZE_LEAVES_H

#include <stddef.h>
#include <stdint.h>

#include <linux/vfio_pgsize.h>

#include "problem.h"

#define MAX_TRANSLATIONS	64

/* Runs of like leaves in rising order; {} is an empty set. */
struct leaves {
	struct vfio_pgsize_run *runs;
	size_t nr;
	size_t room;
	/* Sample translations, for the oracle. */
	struct {
		uint64_t iova;
		uint64_t phys;
	} at[MAX_TRANSLATIONS];
	size_t nr_at;
};

void leaves_free(struct leaves *leaves);

/* Append leaves, as VFIO_PGSIZE_QUERY would report them. */
void leaves_add(struct leaves *leaves, uint64_t iova, uint64_t size, uint64_t pgsize,
		uint32_t flags);

/*
 * Append the leaves of mapping `size` bytes at `va` to `iova` with the allowed leaf sizes
 * `sizes`: at each place the largest size to which IOVA and physical address are aligned
 * and that ends within the physically contiguous run. Call after mapping: pages that are
 * not pinned may move.
 */
problem leaves_tile(struct leaves *leaves, uint64_t iova, const void *va, uint64_t size,
		    uint64_t sizes, uint32_t flags);
/* The same for memory that is contiguous from `phys` on. */
void leaves_tile_phys(struct leaves *leaves, uint64_t iova, uint64_t phys, uint64_t size,
		      uint64_t sizes, uint32_t flags);

/* Append the module's report of a range. */
problem leaves_query(struct leaves *leaves, int container, uint32_t domain, uint64_t iova,
		     uint64_t size);

/* The same with private pages: runs with VFIO_PGSIZE_RUN_PRIVATE, without a leaf size. */
problem leaves_query_state(struct leaves *leaves, int container, uint32_t domain, uint64_t iova,
			   uint64_t size);

/* The number of all leaves, and of those of one size. */
uint64_t leaves_count(const struct leaves *leaves);
uint64_t leaves_count_size(const struct leaves *leaves, uint64_t pgsize);

problem leaves_differ(const struct leaves *expected, const struct leaves *found);

#endif
