// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pieces.h"
#include "units.h"

#define BLOCK	512

/* Pages of a joined mapping, and of the largest piece of one. */
#define JOINED	(GIB(1) / PAGE)
#define MOST	(MIB(32) / PAGE)

problem pieces_start(struct pieces *pieces, struct vmm *vmm, unsigned long type, uint64_t iova,
		     uint32_t nr)
{
	memset(pieces, 0, sizeof(*pieces));
	pieces->vmm = vmm;
	pieces->iova = iova;
	pieces->nr = nr;
	pieces->parts = type == VFIO_PGSIZE_IOMMU;
	pieces->flags = pieces->parts ? VFIO_PGSIZE_MAP_JOINED : 0;
	pieces->whole = type == VFIO_TYPE1_IOMMU;
	pieces->random = 1;
	pieces->pages = calloc(nr, sizeof(*pieces->pages));
	if (!pieces->pages)
		abort();
	return vmm_policy(vmm, 0, UPTO_2M);
}

void pieces_free(struct pieces *pieces)
{
	free(pieces->pages);
	pieces->pages = NULL;
}

void pieces_kind(struct pieces *pieces, const void *va, uint32_t flags)
{
	pieces->kinds[pieces->nr_kinds++] = (struct kind) { (uint8_t *)va, flags };
}

static uint64_t page_of(const struct pieces *pieces, uint32_t page)
{
	return pieces->iova / PAGE + page;
}

/* Larger than a piece that is joined may be, or in two of the blocks that are joined. */
static bool is_joined(const struct pieces *pieces, uint32_t first, uint32_t nr)
{
	return nr <= MOST && page_of(pieces, first) / JOINED ==
				     page_of(pieces, first + nr - 1) / JOINED;
}

static bool goes_on_at(const struct pieces *pieces, uint32_t page)
{
	return page < pieces->nr && pieces->pages[page].kind && !pieces->pages[page].start;
}

problem pieces_map_may_fail(struct pieces *pieces, uint32_t kind, uint32_t first, uint32_t nr,
			    bool *failed)
{
	const struct kind *of = &pieces->kinds[kind];
	bool taken = false;
	int expected, ret;

	for (uint32_t page = first; page < first + nr; page++)
		taken |= pieces->pages[page].kind != 0;
	expected = taken ? -EEXIST : 0;
	ret = dma_map(pieces->vmm->container, pieces->iova + first * PAGE, of->va + first * PAGE,
		      nr * PAGE, of->flags | pieces->flags);
	*failed = ret == -ENOMEM || ret == -EFAULT;
	if (ret != expected && !*failed)
		return problem_is("mapping %u pages at page %u: %s, not %s", nr, first,
				  strerror(-ret), strerror(-expected));
	pieces->calls[0][*failed ? 2 : taken]++;
	if (ret)
		return NULL;
	for (uint32_t page = first; page < first + nr; page++)
		pieces->pages[page] = (struct page) {
			kind + 1, is_joined(pieces, first, nr), page == first,
		};
	pieces->nr_mapped += nr;
	return NULL;
}

problem pieces_map(struct pieces *pieces, uint32_t kind, uint32_t first, uint32_t nr)
{
	bool failed;
	problem wrong = pieces_map_may_fail(pieces, kind, first, nr, &failed);

	return wrong || !failed ? wrong : problem_is("mapping %u pages at page %u fails", nr, first);
}

problem pieces_map_some(struct pieces *pieces)
{
	problem wrong = NULL;

	for (uint32_t page = 512; !wrong && page < 1024; page += 64)
		wrong = pieces_map(pieces, 0, page, 64);
	for (uint32_t page = 0; !wrong && page < 512; page += 3)
		wrong = pieces_map(pieces, page / 3 % 2, page, 1);
	return wrong ? wrong : pieces_map(pieces, 0, 1024 + 5, 1000);
}

void pieces_separate(struct pieces *pieces)
{
	for (uint32_t page = 0; page < pieces->nr; page++)
		pieces->pages[page].joined = false;
}

uint32_t pieces_forget(struct pieces *pieces, uint32_t first, uint32_t nr)
{
	uint32_t mapped = 0;

	for (uint32_t page = first; page < first + nr; page++) {
		mapped += pieces->pages[page].kind != 0;
		pieces->pages[page] = (struct page) {};
	}
	if (goes_on_at(pieces, first + nr))
		pieces->pages[first + nr].start = true;
	pieces->nr_mapped -= mapped;
	return mapped;
}

problem pieces_unmap_may_fail(struct pieces *pieces, uint32_t first, uint32_t nr, bool *failed)
{
	bool cuts = goes_on_at(pieces, first) || goes_on_at(pieces, first + nr);
	int expected = cuts && !pieces->parts && !pieces->whole ? -EINVAL : 0;
	uint64_t size = nr * PAGE;
	uint32_t mapped, taken;
	int ret = dma_unmap(pieces->vmm->container, pieces->iova + first * PAGE, &size, 0);

	*failed = ret == -ENOMEM || ret == -EFAULT;
	if (ret != expected && !*failed)
		return problem_is("unmapping %u pages at page %u: %s, not %s", nr, first,
				  strerror(-ret), strerror(-expected));
	pieces->calls[1][*failed ? 2 : expected != 0]++;
	if (ret)
		return NULL;
	taken = nr;
	if (pieces->whole && goes_on_at(pieces, first))
		taken = 0;
	while (pieces->whole && taken && goes_on_at(pieces, first + taken))
		taken++;
	mapped = taken ? pieces_forget(pieces, first, taken) : 0;
	if (size != mapped * PAGE)
		return problem_is("unmapping %u pages at page %u: %lu bytes, not %llu", nr, first,
				  size, mapped * PAGE);
	return NULL;
}

problem pieces_unmap(struct pieces *pieces, uint32_t first, uint32_t nr)
{
	bool failed;
	problem wrong = pieces_unmap_may_fail(pieces, first, nr, &failed);

	return wrong || !failed ? wrong : problem_is("unmapping %u pages at page %u fails", nr,
						      first);
}

/* xorshift: the same each time. */
uint32_t pieces_below(struct pieces *pieces, uint32_t limit)
{
	pieces->random ^= pieces->random << 13;
	pieces->random ^= pieces->random >> 17;
	pieces->random ^= pieces->random << 5;
	return pieces->random % limit;
}

problem pieces_random(struct pieces *pieces)
{
	static const uint32_t most[] = { 1, 1, 1, 1, 1, 1, 1, 1, 16, 16, 600, 0 };
	uint32_t limit = most[pieces_below(pieces, 12)];
	uint32_t first = pieces_below(pieces, pieces->nr), nr;
	/* Most of the memory is mapped half of the time. */
	bool map = pieces_below(pieces, 64) < (pieces->random >> 20 & 1 ? 34 : 30);

	if (!limit)
		limit = pieces_below(pieces, 8) ? 2000 : pieces->nr;
	nr = 1 + pieces_below(pieces, limit);
	if (nr > pieces->nr - first)
		nr = pieces->nr - first;
	if (!map)
		return pieces_unmap(pieces, first, nr);
	/* Few pieces are of another kind than their neighbours. */
	return pieces_map(pieces, pieces_below(pieces, 8) ?
			  (page_of(pieces, first) / 1024) % pieces->nr_kinds :
			  pieces_below(pieces, pieces->nr_kinds), first, nr);
}

/* How many joined mappings there are to be, and what they are to have. */
static uint64_t entries(const struct pieces *pieces, uint64_t *joined)
{
	uint64_t count = 0, block = 0;
	uint32_t seen = 0;

	*joined = 0;
	for (uint32_t page = 0; page < pieces->nr; page++) {
		if (page_of(pieces, page) / JOINED != block) {
			block = page_of(pieces, page) / JOINED;
			seen = 0;
		}
		if (!pieces->pages[page].joined)
			continue;
		*joined += PAGE;
		if (!(seen & 1 << pieces->pages[page].kind))
			count++;
		seen |= 1 << pieces->pages[page].kind;
	}
	return count;
}

problem pieces_agree_quickly(struct pieces *pieces)
{
	struct vfio_pgsize_stats stats;
	uint64_t joined, count = entries(pieces, &joined);

	if (get_stats(pieces->vmm->container, &stats))
		return problem_is("GET_STATS: %m");
	if (stats.joined_entries != count || stats.joined != joined)
		return problem_is("%llu bytes in %llu joined mappings, not %lu in %lu", stats.joined,
				  stats.joined_entries, joined, count);
	return account_rose(&pieces->vmm->before, pieces->nr_mapped, pieces->nr_mapped);
}

/* Whether pages can have one leaf: those of one joined mapping, or of a piece by itself. */
static bool are_alike(const struct pieces *pieces, uint32_t first)
{
	const struct page *pages = &pieces->pages[first];

	if (first + BLOCK > pieces->nr || page_of(pieces, first) % BLOCK || !pages->kind)
		return false;
	for (int i = 1; i < BLOCK; i++)
		if (pages[i].kind != pages->kind || pages[i].joined != pages->joined ||
		    (!pages->joined && pages[i].start))
			return false;
	return true;
}

static problem expect(const struct pieces *pieces, struct leaves *expected)
{
	problem wrong = NULL;

	for (uint32_t page = 0, nr; !wrong && page < pieces->nr; page += nr) {
		const struct kind *kind = &pieces->kinds[pieces->pages[page].kind - 1];
		bool block = are_alike(pieces, page);

		nr = block ? BLOCK : 1;
		if (!pieces->pages[page].kind)
			continue;
		/* What is not in such a block has leaves of 4K, read up to its end at once. */
		while (!block && page + nr < pieces->nr && (page_of(pieces, page) + nr) % BLOCK &&
		       pieces->pages[page + nr].kind == pieces->pages[page].kind)
			nr++;
		wrong = leaves_tile(expected, pieces->iova + page * PAGE, kind->va + page * PAGE,
				    nr * PAGE, block ? UPTO_2M : ONLY_4K, kind->flags);
	}
	return wrong;
}

problem pieces_agree(struct pieces *pieces)
{
	struct leaves expected = {};
	problem wrong = pieces_agree_quickly(pieces);

	if (!wrong)
		wrong = expect(pieces, &expected);
	if (!wrong)
		wrong = vmm_has_leaves(pieces->vmm, &expected);
	leaves_free(&expected);
	return wrong;
}

problem pieces_are_small(struct pieces *pieces)
{
	struct leaves all = {};
	problem wrong = leaves_query(&all, pieces->vmm->container, 0, 0, EVERYWHERE);

	if (!wrong && leaves_count_size(&all, PAGE) != pieces->nr_mapped)
		wrong = problem_is("%lu leaves of 4K, not %u", leaves_count_size(&all, PAGE),
				   pieces->nr_mapped);
	leaves_free(&all);
	return wrong;
}
