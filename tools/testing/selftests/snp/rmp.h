/* SPDX-License-Identifier: GPL-2.0 */
/* The reverse map table, and QEMU's counts, as the oracle reports them. */
#ifndef SNP_RMP_H
#define SNP_RMP_H

#include <stdbool.h>
#include <stdint.h>

#include "problem.h"

struct rmp_entry {
	bool assigned;
	bool huge;
	uint64_t gpa;
	uint32_t asid;
};

struct rmp_counts {
	uint64_t dma_checks;
	uint64_t dma_faults;
	uint64_t dma_size_faults;	/* of these, because a leaf is too large */
	uint64_t store_faults;
	uint64_t psmashes;
	uint64_t rmpupdates;
	uint64_t rmpreads;
};

problem rmp_entry(struct rmp_entry *entry, uint64_t phys);
problem rmp_counts(struct rmp_counts *counts);

#endif
