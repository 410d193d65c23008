// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <string.h>

#include "oracle.h"
#include "rmp.h"

problem rmp_entry(struct rmp_entry *entry, uint64_t phys)
{
	char question[32], answer[128], state[16], size[8];
	problem wrong;

	snprintf(question, sizeof(question), "rmp %lx", phys);
	wrong = oracle_ask(question, answer, sizeof(answer));
	if (wrong)
		return wrong;
	if (sscanf(answer, "entry %15s %7s %lx %u", state, size, &entry->gpa, &entry->asid) != 4)
		return problem_is("the oracle, of the RMP at %#lx: %s", phys, answer);
	entry->assigned = !strcmp(state, "assigned");
	entry->huge = !strcmp(size, "2M");
	return NULL;
}

problem rmp_counts(struct rmp_counts *counts)
{
	char answer[256];
	problem wrong = oracle_ask("rmp", answer, sizeof(answer));

	if (wrong)
		return wrong;
	if (sscanf(answer, "counts %lu %lu %lu %lu %lu %lu %lu", &counts->dma_checks,
		   &counts->dma_faults, &counts->dma_size_faults, &counts->store_faults,
		   &counts->psmashes, &counts->rmpupdates, &counts->rmpreads) != 7)
		return problem_is("the oracle, of what the RMP forbade: %s", answer);
	return NULL;
}
