// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "backing.h"
#include "leaves.h"
#include "units.h"

_Static_assert(VFIO_DMA_MAP_FLAG_READ == VFIO_PGSIZE_RUN_READ, "one set of flags serves both");
_Static_assert(VFIO_DMA_MAP_FLAG_WRITE == VFIO_PGSIZE_RUN_WRITE, "one set of flags serves both");

/* Runs per VFIO_PGSIZE_QUERY: few, so that tests continue after a full array. */
#define QUERY_RUNS	61

void leaves_free(struct leaves *leaves)
{
	free(leaves->runs);
	memset(leaves, 0, sizeof(*leaves));
}

void leaves_add(struct leaves *leaves, uint64_t iova, uint64_t size, uint64_t pgsize,
		uint32_t flags)
{
	struct vfio_pgsize_run *last = leaves->nr ? &leaves->runs[leaves->nr - 1] : NULL;

	if (last && last->iova + last->size == iova && last->pgsize == pgsize &&
	    last->flags == flags) {
		last->size += size;
		return;
	}
	if (leaves->nr == leaves->room) {
		leaves->room = leaves->room ? 2 * leaves->room : 64;
		leaves->runs = realloc(leaves->runs, leaves->room * sizeof(*leaves->runs));
		if (!leaves->runs)
			abort();
	}
	leaves->runs[leaves->nr++] = (struct vfio_pgsize_run) {
		.iova = iova,
		.size = size,
		.pgsize = pgsize,
		.flags = flags,
	};
}

static void add_translation(struct leaves *leaves, uint64_t iova, uint64_t phys)
{
	/* When the array is full the latest samples replace each other. */
	size_t at = leaves->nr_at < MAX_TRANSLATIONS ? leaves->nr_at++ : MAX_TRANSLATIONS - 1;

	leaves->at[at].iova = iova;
	leaves->at[at].phys = phys;
}

void leaves_tile_phys(struct leaves *leaves, uint64_t iova, uint64_t phys, uint64_t size,
		      uint64_t sizes, uint32_t flags)
{
	add_translation(leaves, iova, phys);
	add_translation(leaves, iova + size - PAGE, phys + size - PAGE);
	while (size) {
		uint64_t leaf = PAGE;

		for (int bit = 12; bit < 63; bit++) {
			uint64_t candidate = 1ULL << bit;

			if (candidate > size || (iova | phys) & (candidate - 1))
				break;
			if (sizes & candidate)
				leaf = candidate;
		}
		leaves_add(leaves, iova, leaf, leaf, flags);
		iova += leaf;
		phys += leaf;
		size -= leaf;
	}
}

problem leaves_tile(struct leaves *leaves, uint64_t iova, const void *va, uint64_t size,
		    uint64_t sizes, uint32_t flags)
{
	uint64_t pages = size / PAGE;
	uint64_t *phys = calloc(pages, sizeof(*phys));
	problem wrong;

	if (!phys)
		abort();
	wrong = memory_phys(va, pages, phys);
	for (uint64_t page = 0; !wrong && page < pages;) {
		uint64_t stretch = 1;

		while (page + stretch < pages &&
		       phys[page + stretch] == phys[page] + stretch * PAGE)
			stretch++;
		leaves_tile_phys(leaves, iova + page * PAGE, phys[page], stretch * PAGE, sizes,
				 flags);
		page += stretch;
	}
	free(phys);
	return wrong;
}

static problem report_is_sound(const struct vfio_pgsize_run *run)
{
	if (run->reserved)
		return problem_is("QUERY: reserved is %#x at IOVA %#llx", run->reserved, run->iova);
	if (run->flags & VFIO_PGSIZE_RUN_PRIVATE) {
		if (run->pgsize || !run->size || (run->size | run->iova) % PAGE)
			return problem_is("QUERY: no private run is %#llx %#llx of %#llx",
					  run->iova, run->size, run->pgsize);
		return NULL;
	}
	if (run->pgsize < PAGE || run->pgsize & (run->pgsize - 1) || !run->size ||
	    run->size % run->pgsize || run->iova % run->pgsize)
		return problem_is("QUERY: no run is %#llx %#llx of %#llx", run->iova, run->size,
				  run->pgsize);
	return NULL;
}

static problem ask(struct leaves *leaves, int container, uint32_t domain, uint64_t iova,
		   uint64_t size, uint32_t flags)
{
	struct vfio_pgsize_run runs[QUERY_RUNS];
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.flags = flags,
		.iova = iova,
		.size = size,
		.domain = domain,
		.runs = (uintptr_t)runs,
	};
	uint64_t end = iova + size;

	while (query.size) {
		uint64_t before = query.iova;

		query.nr = QUERY_RUNS;
		if (ioctl(container, VFIO_PGSIZE_QUERY, &query))
			return problem_is("QUERY of %#lx, %#lx bytes: %m", iova, size);
		if (query.nr > QUERY_RUNS)
			return problem_is("QUERY wrote %u runs for %u", query.nr, QUERY_RUNS);
		if (query.size && (query.iova <= before || query.iova + query.size != end))
			return problem_is("QUERY goes on at %#llx, %#llx bytes, of a range that ends at %#lx",
					  query.iova, query.size, end);
		if (query.size && !query.nr)
			return problem_is("QUERY found nothing and wants to go on");
		for (uint32_t i = 0; i < query.nr; i++) {
			problem wrong = report_is_sound(&runs[i]);

			if (!wrong && runs[i].flags & VFIO_PGSIZE_RUN_PRIVATE && !flags)
				wrong = problem_is("QUERY: private pages, not asked for");
			if (wrong)
				return wrong;
			leaves_add(leaves, runs[i].iova, runs[i].size, runs[i].pgsize,
				   runs[i].flags);
		}
	}
	return NULL;
}

problem leaves_query(struct leaves *leaves, int container, uint32_t domain, uint64_t iova,
		     uint64_t size)
{
	return ask(leaves, container, domain, iova, size, 0);
}

problem leaves_query_state(struct leaves *leaves, int container, uint32_t domain, uint64_t iova,
			   uint64_t size)
{
	return ask(leaves, container, domain, iova, size, VFIO_PGSIZE_QUERY_STATE);
}

uint64_t leaves_count(const struct leaves *leaves)
{
	uint64_t count = 0;

	for (size_t i = 0; i < leaves->nr; i++)
		count += leaves->runs[i].size / leaves->runs[i].pgsize;
	return count;
}

uint64_t leaves_count_size(const struct leaves *leaves, uint64_t pgsize)
{
	uint64_t count = 0;

	for (size_t i = 0; i < leaves->nr; i++)
		if (leaves->runs[i].pgsize == pgsize)
			count += leaves->runs[i].size / pgsize;
	return count;
}

problem leaves_differ(const struct leaves *expected, const struct leaves *found)
{
	for (size_t i = 0; i < expected->nr && i < found->nr; i++) {
		const struct vfio_pgsize_run *want = &expected->runs[i];
		const struct vfio_pgsize_run *have = &found->runs[i];

		if (memcmp(want, have, sizeof(*want)))
			return problem_is("expected %#llx +%#llx of %#llx flags %u, found %#llx +%#llx of %#llx flags %u",
					  want->iova, want->size, want->pgsize, want->flags,
					  have->iova, have->size, have->pgsize, have->flags);
	}
	if (expected->nr > found->nr)
		return problem_is("expected %#llx +%#llx of %#llx, found no more after %zu runs",
				  expected->runs[found->nr].iova, expected->runs[found->nr].size,
				  expected->runs[found->nr].pgsize, found->nr);
	if (found->nr > expected->nr)
		return problem_is("expected no more after %zu runs, found %#llx +%#llx of %#llx",
				  expected->nr, found->runs[expected->nr].iova,
				  found->runs[expected->nr].size, found->runs[expected->nr].pgsize);
	return NULL;
}
