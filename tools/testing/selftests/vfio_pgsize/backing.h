/* SPDX-License-Identifier: GPL-2.0 */
/* Memory of every kind that a VMM may give a guest. */
#ifndef VFIO_PGSIZE_BACKING_H
#define VFIO_PGSIZE_BACKING_H

#include <stdint.h>

#include "problem.h"

enum backing {
	ANON_4K,	/* anonymous, no huge page allowed */
	THP,		/* anonymous, transparent huge pages */
	HUGETLB_2M,
	HUGETLB_1G,
	MEMFD,		/* shared memory in 4K pages */
	MEMFD_2M,	/* shared memory in huge pages of 2M */
	MIXED,		/* a quarter each of HUGETLB_2M, ANON_4K, MEMFD and THP */
};

struct memory {
	uint8_t *va;
	uint64_t size;
};

/* Touched, writable and zeroed; huge pages are reserved as needed. */
problem memory_alloc(struct memory *memory, enum backing backing, uint64_t size);
void memory_free(struct memory *memory);

/* The physical address of each of `pages` pages of 4K from `va` on. */
problem memory_phys(const void *va, uint64_t pages, uint64_t *phys);

/* Huge pages of this size that are free. */
long huge_pages_free(uint64_t size);
/* Return unused huge pages to the machine. */
void huge_pages_release(void);

#endif
