/* SPDX-License-Identifier: GPL-2.0 */
/* What a mapping costs: locked memory of this process, pinned pages of the machine. */
#ifndef VFIO_PGSIZE_ACCOUNTING_H
#define VFIO_PGSIZE_ACCOUNTING_H

#include "problem.h"

struct account {
	long locked;	/* pages that count against RLIMIT_MEMLOCK */
	long pinned;	/* pages pinned for DMA, in the whole machine */
	long tables;	/* pages of IOMMU page tables, in the whole machine */
};

problem account_read(struct account *account);
/* Has the account risen by just so much since `before`? */
problem account_rose(const struct account *before, long locked, long pinned);
/* Is it the same as before, at last? What a killed process had goes a moment after it. */
problem account_settles(const struct account *before);

/* From now on this process may lock so many pages, and no more. */
problem account_limit(long pages);

#endif
