// SPDX-License-Identifier: GPL-2.0
/*
 * The workload on type1: shared memory is mapped, with a mapping for each piece. UNMAP
 * removes whole mappings only: if a part of one becomes private, all of it is unmapped,
 * and the rest is mapped again. In between, DMA to the rest faults.
 */
#include <string.h>

#include "clock.h"
#include "units.h"
#include "workload.h"

static struct workload *workload;
static struct vmm *vmm;
static struct piecewise *result;

/* For the first page of a mapping: its length in pages; for each page: the mapping's first. */
static uint32_t length[ALL_PAGES], start[ALL_PAGES];

static bool map(uint64_t first, uint64_t pages)
{
	uint64_t begin = instructions();
	int ret = dma_map(vmm->container, AT + offset_of(first),
			  workload->memory.va + offset_of(first), pages * PAGE, READ_WRITE);

	result->instructions += instructions() - begin;
	if (ret) {
		result->error = -ret;
		return false;
	}
	result->mappings++;
	length[first] = pages;
	for (uint64_t page = first; page < first + pages; page++) {
		start[page] = first;
		workload->shared[page] = 1;
	}
	return true;
}

static bool unmap(uint64_t first, uint64_t pages, uint64_t mappings)
{
	uint64_t size = pages * PAGE, begin = instructions();
	int ret = dma_unmap(vmm->container, AT + offset_of(first), &size, 0);

	result->instructions += instructions() - begin;
	if (ret) {
		result->error = -ret;
		return false;
	}
	result->mappings -= mappings;
	memset(&workload->shared[first], 0, pages);
	return true;
}

static bool share(struct piece piece, enum manner manner)
{
	uint64_t end = piece.first + piece.pages;

	for (uint64_t page = piece.first, last; page < end; page = last) {
		for (last = page + 1; last < end && workload->shared[last] == workload->shared[page];
		     last++)
			if (manner == PER_PAGE)
				break;
		if (!workload->shared[page] && !map(page, last - page))
			return false;
	}
	return true;
}

/* A mapping of which the pages from `first` to `end` are removed. */
static bool cut(uint64_t mapping, uint64_t first, uint64_t end)
{
	uint64_t mapping_end = mapping + length[mapping];

	if (!unmap(mapping, mapping_end - mapping, 1))
		return false;
	if (mapping < first) {
		result->pages_lost += first - mapping;
		if (!map(mapping, first - mapping))
			return false;
	}
	if (end < mapping_end) {
		result->pages_lost += mapping_end - end;
		return map(end, mapping_end - end);
	}
	return true;
}

static bool unshare(struct piece piece, enum manner manner)
{
	uint64_t end = piece.first + piece.pages, mappings = 0;

	for (uint64_t page = piece.first; page < end; page++) {
		if (!workload->shared[page])
			continue;
		mappings++;
		if (manner == PER_PIECE && !cut(start[page], piece.first, end))
			return false;
	}
	return manner == PER_PIECE || unmap(piece.first, piece.pages, mappings);
}

problem piecewise_run(struct workload *of, struct vmm *in, enum manner manner, uint64_t changes,
		      struct piecewise *into)
{
	uint64_t all = 0;
	int ret;

	workload = of;
	vmm = in;
	result = into;
	memset(result, 0, sizeof(*result));
	workload_start(workload, workload->memory);
	while (result->changes < changes) {
		struct piece piece = workload_next(workload);

		if (!(piece.share ? share(piece, manner) : unshare(piece, manner)))
			break;
		result->changes++;
	}
	ret = dma_unmap(vmm->container, 0, &all, VFIO_DMA_UNMAP_FLAG_ALL);
	return ret ? problem_is("UNMAP_DMA of all: %s", strerror(-ret)) : NULL;
}
