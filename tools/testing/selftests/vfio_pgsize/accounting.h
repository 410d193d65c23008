/* SPDX-License-Identifier: GPL-2.0 */
/* What a mapping costs: locked memory of this process, pinned pages of the machine. */
#ifndef VFIO_PGSIZE_ACCOUNTING_H
#define VFIO_PGSIZE_ACCOUNTING_H

#include "problem.h"

struct account {
	long locked;	/* pages that count against RLIMIT_MEMLOCK */
	long pinned;	/* pages pinned for DMA, in the whole machine */
};

problem account_read(struct account *account);
/* Has the account risen by just so much since `before`? */
problem account_rose(const struct account *before, long locked, long pinned);

#endif
