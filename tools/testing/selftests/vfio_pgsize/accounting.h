/* SPDX-License-Identifier: GPL-2.0 */
/* The cost of a mapping: locked memory of this process, pinned pages of the machine. */
#ifndef VFIO_PGSIZE_ACCOUNTING_H
#define VFIO_PGSIZE_ACCOUNTING_H

#include "problem.h"

struct account {
	long locked;	/* pages that count against RLIMIT_MEMLOCK */
	long pinned;	/* pages pinned for DMA, in the whole machine */
	long tables;	/* pages of IOMMU page tables, in the whole machine */
};

problem account_read(struct account *account);
/* Whether the account has risen by exactly this since `before`. */
problem account_rose(const struct account *before, long locked, long pinned);
/* Whether it returns to its old value. A killed process's memory is freed a moment later. */
problem account_settles(const struct account *before);

/* From now on this process may lock this many pages. */
problem account_limit(long pages);

#endif
