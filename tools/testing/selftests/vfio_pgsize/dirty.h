/* SPDX-License-Identifier: GPL-2.0 */
/* Dirty tracking: VFIO_IOMMU_DIRTY_PAGES and what it tells. */
#ifndef VFIO_PGSIZE_DIRTY_H
#define VFIO_PGSIZE_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#include "edu.h"
#include "problem.h"

/* Bytes of a bitmap of so many bytes of IOVA. */
#define DIRTY_BYTES(size)	(((size) / 4096 + 63) / 64 * 8)

/* Each returns 0 or -errno. */
int dirty_start(int container);
int dirty_stop(int container);
/* The bitmap of a range, of DIRTY_BYTES(size). */
int dirty_get(int container, uint64_t iova, uint64_t size, uint64_t *bitmap);
/* As VFIO_IOMMU_DIRTY_PAGES with GET_BITMAP, with all that there is to say. */
int dirty_get_with(int container, uint32_t argsz, uint64_t iova, uint64_t size, uint64_t pgsize,
		   uint64_t bytes, const void *bitmap);
/* Unmap; *size as for dma_unmap(). */
int dirty_unmap(int container, uint64_t iova, uint64_t *size, uint64_t *bitmap);
int dirty_unmap_with(int container, uint32_t argsz, uint32_t flags, uint64_t iova, uint64_t *size,
		     uint64_t pgsize, uint64_t bytes, const void *bitmap);

/* Pages, by their numbers from a range's start on, that are to be dirty; in rising order. */
struct dirty_run {
	uint64_t first;
	uint64_t pages;
};

#define DIRTY(...)	(const struct dirty_run[]){ __VA_ARGS__, {} }
#define CLEAN		(const struct dirty_run[]){ {} }

/* Just these pages are dirty in a bitmap of the range. */
problem dirty_bits_are(const uint64_t *bitmap, uint64_t size, const struct dirty_run *runs);
/* Read the bitmap, and see that. */
problem dirty_is(int container, uint64_t iova, uint64_t size, const struct dirty_run *runs);

/* A device writes its buffer to the pages of these numbers. */
problem dirty_store(struct edu *edu, uint64_t iova, const struct dirty_run *runs);

#endif
