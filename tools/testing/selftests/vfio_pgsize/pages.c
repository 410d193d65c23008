// SPDX-License-Identifier: GPL-2.0
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "pages.h"
#include "units.h"

/* Maximum number of changes in a call. */
#define MAX_CHANGES	512

problem pages_start(struct pages *pages, struct vmm *vmm, uint64_t iova,
		    const struct memory *memory, uint64_t sizes)
{
	*pages = (struct pages){
		.vmm = vmm,
		.iova = iova,
		.va = memory->va,
		.nr = memory->size / PAGE,
		.sizes = sizes,
		.frame = calloc(memory->size / PAGE, sizeof(uint64_t)),
	};
	if (!pages->frame)
		abort();
	return account_read(&pages->before);
}

problem pages_map(struct pages *pages, struct vmm *vmm, uint64_t iova, const struct memory *memory,
		  uint64_t sizes, uint32_t state)
{
	uint32_t flags = READ_WRITE | STATEFUL | (state == SHARED ? VFIO_PGSIZE_MAP_SHARED : 0);
	problem wrong = pages_start(pages, vmm, iova, memory, sizes);

	if (!wrong)
		wrong = vmm_policy(vmm, 0, sizes);
	if (!wrong)
		wrong = vmm_map(vmm, iova, memory->va, memory->size, flags);
	if (!wrong && state == SHARED)
		wrong = pages_note(pages, CHANGES({ 0, memory->size, SHARED }));
	return wrong;
}

problem pages_unmap(struct pages *pages)
{
	memset(pages->frame, 0, pages->nr * sizeof(*pages->frame));
	pages->nr_shared = 0;
	return dma_unmap_exactly(pages->vmm->container, pages->iova, pages->nr * PAGE);
}

void pages_free(struct pages *pages)
{
	free(pages->frame);
	pages->frame = NULL;
}

static problem note(struct pages *pages, const struct change *change)
{
	uint64_t end = (change->at + change->size) / PAGE;

	for (uint64_t page = change->at / PAGE; page < end; page++) {
		uint64_t stretch = 0;
		problem wrong;

		if (change->state == PRIVATE) {
			pages->nr_shared -= !!pages->frame[page];
			pages->frame[page] = 0;
			continue;
		}
		/* Pages that are already shared keep their frames, whatever the memory has now. */
		while (page + stretch < end && !pages->frame[page + stretch])
			stretch++;
		if (!stretch)
			continue;
		wrong = memory_phys(pages->va + page * PAGE, stretch, &pages->frame[page]);
		if (wrong)
			return wrong;
		pages->nr_shared += stretch;
		page += stretch - 1;
	}
	return NULL;
}

problem pages_note(struct pages *pages, const struct change *changes, uint32_t nr)
{
	problem wrong = NULL;

	for (uint32_t i = 0; !wrong && i < nr; i++)
		wrong = note(pages, &changes[i]);
	return wrong;
}

void pages_changes(const struct pages *pages, const struct change *changes, uint32_t nr,
		   struct vfio_pgsize_state *into)
{
	for (uint32_t i = 0; i < nr; i++)
		into[i] = (struct vfio_pgsize_state){
			.iova = pages->iova + changes[i].at,
			.size = changes[i].size,
			.state = changes[i].state,
		};
}

static problem call(struct pages *pages, const struct change *changes, uint32_t nr, int error,
		    uint32_t done)
{
	struct vfio_pgsize_state states[MAX_CHANGES];
	uint32_t told = nr;
	int ret;

	if (nr > MAX_CHANGES)
		return problem_is("%u changes are too many for the model", nr);
	pages_changes(pages, changes, nr, states);
	ret = set_state(pages->vmm->container, states, &told);
	if (ret != -error || told != done)
		return problem_is("SET_STATE of %u changes, first %#lx +%#lx: %s, %u done; expected: %s, %u",
				  nr, changes[0].at, changes[0].size, strerror(-ret), told,
				  strerror(error), done);
	return pages_note(pages, changes, done);
}

problem pages_batch(struct pages *pages, const struct change *changes, uint32_t nr)
{
	return call(pages, changes, nr, 0, nr);
}

problem pages_batch_fails(struct pages *pages, const struct change *changes, uint32_t nr, int error,
			  uint32_t done)
{
	return call(pages, changes, nr, error, done);
}

problem pages_set(struct pages *pages, uint64_t at, uint64_t size, uint32_t state)
{
	return pages_batch(pages, CHANGES({ at, size, state }));
}

static void tile(const struct pages *pages, struct leaves *leaves, bool with_private)
{
	uint64_t sizes = pages->sizes & pages->vmm->sizes;

	for (uint64_t page = 0, stretch; page < pages->nr; page += stretch) {
		uint64_t iova = pages->iova + page * PAGE, frame = pages->frame[page];

		for (stretch = 1; page + stretch < pages->nr; stretch++)
			if (pages->frame[page + stretch] != (frame ? frame + stretch * PAGE : 0))
				break;
		if (frame)
			leaves_tile_phys(leaves, iova, frame, stretch * PAGE, sizes, READ_WRITE);
		else if (with_private)
			leaves_add(leaves, iova, stretch * PAGE, 0, VFIO_PGSIZE_RUN_PRIVATE);
	}
}

void pages_leaves(const struct pages *pages, struct leaves *leaves)
{
	tile(pages, leaves, false);
}

void pages_states(const struct pages *pages, struct leaves *leaves)
{
	tile(pages, leaves, true);
}

/* Each leaf as one of 2M, if it is as large, otherwise of 4K. */
static void coarsen(const struct leaves *from, struct leaves *to)
{
	for (size_t i = 0; i < from->nr; i++) {
		const struct vfio_pgsize_run *run = &from->runs[i];
		uint64_t pgsize = run->pgsize >= MIB(2) ? MIB(2) : run->pgsize ? PAGE : 0;

		leaves_add(to, run->iova, run->size, pgsize, run->flags);
	}
}

/*
 * If any size is allowed, the leaves between 4K and 2M depend on the history. This much is
 * certain: they cover the shared pages, and whole blocks have leaves of 2M at least.
 */
static problem is_covered(const struct leaves *expected, const struct leaves *found)
{
	struct leaves want = {}, have = {};
	problem wrong;

	coarsen(expected, &want);
	coarsen(found, &have);
	wrong = leaves_differ(&want, &have);
	leaves_free(&want);
	leaves_free(&have);
	return wrong;
}

static problem query_agrees(const struct pages *pages)
{
	struct leaves states = {}, found = {};
	problem wrong = leaves_query_state(&found, pages->vmm->container, 0, pages->iova,
					   pages->nr * PAGE);

	pages_states(pages, &states);
	if (!wrong && pages->sizes == ANY_SIZE)
		wrong = is_covered(&states, &found);
	else if (!wrong)
		wrong = leaves_differ(&states, &found);
	leaves_free(&states);
	leaves_free(&found);
	return wrong ? problem_is("QUERY_STATE: %s", wrong) : NULL;
}

problem pages_agree_quickly(const struct pages *pages)
{
	long shared = pages->nr_shared + pages->others;
	struct vfio_pgsize_stats stats;
	problem wrong = query_agrees(pages);

	if (!wrong)
		wrong = account_rose(&pages->before, shared, shared + pages->pinned);
	if (wrong)
		return wrong;
	if (get_stats(pages->vmm->container, &stats))
		return problem_is("GET_STATS: %m");
	if (stats.shared != pages->nr_shared * PAGE || stats.stateful != pages->nr * PAGE)
		return problem_is("GET_STATS says %llu bytes of %llu are shared, not %llu of %llu",
				  stats.shared, stats.stateful, pages->nr_shared * PAGE,
				  pages->nr * PAGE);
	return NULL;
}

/* The device's view of the mapping by the module's report, with its translations. */
static problem oracle_agrees_with(const struct pages *pages)
{
	struct leaves model = {}, found = {};
	problem wrong = NULL;

	pages_leaves(pages, &model);
	if (pages->sizes == ANY_SIZE || pages->others)
		wrong = leaves_query(&found, pages->vmm->container, 0, 0, EVERYWHERE);
	else
		for (size_t i = 0; i < model.nr; i++)
			leaves_add(&found, model.runs[i].iova, model.runs[i].size,
				   model.runs[i].pgsize, model.runs[i].flags);
	memcpy(found.at, model.at, sizeof(found.at));
	found.nr_at = model.nr_at;
	for (int i = 0; !wrong && i < MAX_DEVICES; i++)
		if (pages->vmm->devices[i].group >= 0)
			wrong = oracle_agrees(pages->vmm->devices[i].bdf, &found);
	leaves_free(&model);
	leaves_free(&found);
	return wrong;
}

problem pages_agree(const struct pages *pages)
{
	problem wrong = pages_agree_quickly(pages);

	return wrong ? wrong : oracle_agrees_with(pages);
}
