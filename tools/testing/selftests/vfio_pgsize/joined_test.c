// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings that are joined: one entry for all pieces of a gigabyte, with type1's rules
 * from outside, and leaves that grow as pieces come.
 */
#include <errno.h>
#include <stdlib.h>

#include "harness.h"
#include "module.h"
#include "pieces.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(8)

FIXTURE(joined) {
	struct vmm vmm;
	struct memory memory;
	uint32_t flags;		/* of MAP_DMA, for what is to be joined */
	bool parts;		/* UNMAP_DMA takes parts of pieces */
};

FIXTURE_VARIANT(joined) {
	unsigned long type;
};

FIXTURE_VARIANT_ADD(joined, type1v2) { .type = VFIO_TYPE1v2_IOMMU };
FIXTURE_VARIANT_ADD(joined, type1) { .type = VFIO_TYPE1_IOMMU };
FIXTURE_VARIANT_ADD(joined, pgsize) { .type = VFIO_PGSIZE_IOMMU };

FIXTURE_SETUP(joined)
{
	ASSERT_SOUND(module_require(JOIN_ON));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	self->parts = variant->type == VFIO_PGSIZE_IOMMU;
	self->flags = READ_WRITE | (self->parts ? VFIO_PGSIZE_MAP_JOINED : 0);
}

FIXTURE_TEARDOWN(joined)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* So many joined mappings with so many bytes; and all else that is mapped, in pages. */
static problem has(FIXTURE_DATA(joined) *self, uint64_t entries, uint64_t joined, long others)
{
	struct vfio_pgsize_stats stats;
	long pages = joined / PAGE + others;

	if (get_stats(self->vmm.container, &stats))
		return problem_is("GET_STATS: %m");
	if (stats.joined_entries != entries || stats.joined != joined)
		return problem_is("%llu bytes in %llu joined mappings, not %lu in %lu", stats.joined,
				  stats.joined_entries, joined, entries);
	return account_rose(&self->vmm.before, pages, pages);
}

/* Entries that are left for what is not joined; -1: that is not told. */
static int avail(FIXTURE_DATA(joined) *self)
{
	struct info info;

	return container_info(self->vmm.container, &info) ? -2 : info.dma_avail;
}

#define MAP(at, size)	\
	ASSERT_EQ(0, dma_map(self->vmm.container, AT + (at), self->memory.va + (at), size, self->flags))
#define MAP_FAILS(error, at, size)	\
	EXPECT_EQ(-(error), dma_map(self->vmm.container, AT + (at), self->memory.va + (at), size, \
				    self->flags))
#define UNMAP(at, size)	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + (at), size))
/* Unmap a range of which only so much is mapped. */
#define UNMAP_OF(at, range, mapped) do {					\
	uint64_t __size = range;						\
										\
	ASSERT_EQ(0, dma_unmap(self->vmm.container, AT + (at), &__size, 0));	\
	EXPECT_EQ(mapped, __size);						\
} while (0)
#define HAS(entries, joined)	EXPECT_SOUND(has(self, entries, joined, 0))

/* A range with leaves of these sizes. */
struct piece {
	uint64_t at;
	uint64_t size;
	uint64_t sizes;
};

#define LEAVES(...) EXPECT_SOUND(has_leaves(self, (const struct piece[]){ __VA_ARGS__, {} }))

static problem has_leaves(FIXTURE_DATA(joined) *self, const struct piece *pieces)
{
	struct leaves expected = {};
	problem wrong = NULL;

	for (; !wrong && pieces->size; pieces++)
		wrong = leaves_tile(&expected, AT + pieces->at, self->memory.va + pieces->at,
				    pieces->size, pieces->sizes, READ_WRITE);
	if (!wrong)
		wrong = vmm_has_leaves(&self->vmm, &expected);
	leaves_free(&expected);
	return wrong;
}

/* Numbers below `nr` in random order, the same each time. */
static uint32_t *shuffled(uint32_t nr)
{
	uint32_t *order = calloc(nr, sizeof(*order));

	if (!order)
		abort();
	srandom(nr);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t other = random() % (i + 1);

		order[i] = order[other];
		order[other] = i;
	}
	return order;
}

/* Page by page: leaves of 4K until the last of a 2M comes, and back. */
TEST_F_TIMEOUT(joined, leaves_grow, TIMEOUT)
{
	uint32_t *order = shuffled(512);
	int before = avail(self);

	for (int i = 0; i < 511; i++)
		MAP(MIB(2) + order[i] * PAGE, PAGE);
	HAS(1, 511 * PAGE);
	LEAVES({ MIB(2), order[511] * PAGE, ONLY_4K },
	       { MIB(2) + (order[511] + 1) * PAGE, (511 - order[511]) * PAGE, ONLY_4K });
	MAP(MIB(2) + order[511] * PAGE, PAGE);
	HAS(1, MIB(2));
	LEAVES({ MIB(2), MIB(2), UPTO_2M });
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + MIB(2), self->memory.va + MIB(2), MIB(2)));
	/* Those by themselves are as many as before. */
	EXPECT_EQ(self->parts ? UINT16_MAX : INT32_MAX, before);
	EXPECT_EQ(before, avail(self));
	for (int i = 0; i < 512; i++) {
		MAP_FAILS(EEXIST, MIB(2) + order[i] * PAGE, PAGE);
		UNMAP(MIB(2) + order[i] * PAGE, PAGE);
		if (!i)
			LEAVES({ MIB(2), order[0] * PAGE, ONLY_4K },
			       { MIB(2) + (order[0] + 1) * PAGE, (511 - order[0]) * PAGE, ONLY_4K });
	}
	HAS(0, 0);
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, AT + MIB(2)));
	free(order);
}

/* Pieces keep their bounds, as type1's mappings do; or are cut exactly. VFIO_TYPE1_IOMMU takes them whole. */
TEST_F_TIMEOUT(joined, bounds, TIMEOUT)
{
	static const struct { uint64_t at, size; } cuts[] = {
		{ MIB(1), PAGE }, { MIB(1) - PAGE, 2 * PAGE }, { 0, MIB(1) + PAGE },
		{ MIB(2) - PAGE, PAGE }, { MIB(2) - PAGE, MIB(1) }, { MIB(1) + PAGE, MIB(1) - PAGE },
	};
	static const struct { uint64_t at, size, taken; } wholes[] = {
		{ MIB(1), PAGE, MIB(1) }, { MIB(1), MIB(1) - PAGE, MIB(1) },
		{ MIB(1) - PAGE, 2 * PAGE, 0 }, { PAGE, MIB(4), 0 }, { MIB(2) - PAGE, PAGE, 0 },
		{ MIB(2) - PAGE, MIB(1), 0 }, { MIB(8) - PAGE, PAGE, 0 },
	};

	/* Five pieces: [0, 1M), 1M to 2M, a page, [2M + 4K, 3M), [4M, 8M) */
	MAP(0, MIB(1));
	MAP(MIB(1), MIB(1));
	MAP(MIB(2) + PAGE, MIB(1) - PAGE);
	MAP(MIB(2), PAGE);
	MAP(MIB(4), MIB(4));
	HAS(1, MIB(7));
	LEAVES({ 0, MIB(2), UPTO_2M }, { MIB(2), MIB(1), ONLY_4K }, { MIB(4), MIB(4), UPTO_2M });
	for (size_t i = 0; i < ARRAY_SIZE(cuts) && variant->type == VFIO_TYPE1v2_IOMMU; i++) {
		uint64_t size = cuts[i].size;

		EXPECT_EQ(-EINVAL, dma_unmap(self->vmm.container, AT + cuts[i].at, &size, 0));
		HAS(1, MIB(7));
	}
	if (variant->type == VFIO_TYPE1_IOMMU) {
		/* What begins before the range stays, and all behind it; the rest goes whole. */
		for (size_t i = 0; i < ARRAY_SIZE(wholes); i++) {
			UNMAP_OF(wholes[i].at, wholes[i].size, wholes[i].taken);
			HAS(1, MIB(7) - wholes[i].taken);
			if (wholes[i].taken)
				MAP(MIB(1), MIB(1));
		}
		LEAVES({ 0, MIB(2), UPTO_2M }, { MIB(2), MIB(1), ONLY_4K },
		       { MIB(4), MIB(4), UPTO_2M });
	}
	MAP_FAILS(EEXIST, MIB(3) - PAGE, 2 * PAGE);
	MAP_FAILS(EEXIST, MIB(3), MIB(2));
	/* One piece of a leaf, and one on both sides of a hole. */
	UNMAP(MIB(1), MIB(1));
	HAS(1, MIB(6));
	LEAVES({ 0, MIB(1), ONLY_4K }, { MIB(2), MIB(1), ONLY_4K }, { MIB(4), MIB(4), UPTO_2M });
	UNMAP_OF(MIB(2) + PAGE, MIB(6) - PAGE, MIB(5) - PAGE);
	HAS(1, MIB(1) + PAGE);
	LEAVES({ 0, MIB(1), ONLY_4K }, { MIB(2), PAGE, ONLY_4K });
	UNMAP_OF(MIB(1), MIB(1), 0);
	if (self->parts) {
		UNMAP_OF(KIB(512), MIB(4), KIB(512) + PAGE);
		LEAVES({ 0, KIB(512), ONLY_4K });
		UNMAP(KIB(4), PAGE);
		LEAVES({ 0, PAGE, ONLY_4K }, { 2 * PAGE, KIB(512) - 2 * PAGE, ONLY_4K });
		HAS(1, KIB(512) - PAGE);
	}
	{
		uint64_t size = 0;

		ASSERT_EQ(0, dma_unmap(self->vmm.container, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL));
		EXPECT_EQ(self->parts ? KIB(512) - PAGE : MIB(1) + PAGE, size);
	}
	HAS(0, 0);
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

/* Entries for what differs, and none for what is large or crosses a gigabyte. */
TEST_F_TIMEOUT(joined, entries, TIMEOUT)
{
	struct memory large = {};
	int container = self->vmm.container;
	uint8_t *va = self->memory.va;
	uint64_t size = EVERYWHERE;
	struct leaves expected = {};

	MAP(0, PAGE);
	MAP(SIZE - PAGE, PAGE);
	HAS(1, 2 * PAGE);
	/* another distance, another access: between the others, and next to them */
	ASSERT_EQ(0, dma_map(container, AT + PAGE, va, PAGE, self->flags));
	HAS(2, 3 * PAGE);
	ASSERT_EQ(0, dma_map(container, AT + 2 * PAGE, va + 2 * PAGE, PAGE,
			     self->flags & ~VFIO_DMA_MAP_FLAG_WRITE));
	HAS(3, 4 * PAGE);
	MAP(3 * PAGE, PAGE);
	ASSERT_EQ(0, dma_map(container, AT + 4 * PAGE, va + 3 * PAGE, PAGE, self->flags));
	HAS(3, 6 * PAGE);
	/* another gigabyte */
	ASSERT_EQ(0, dma_map(container, AT - PAGE, va - PAGE + SIZE, PAGE, self->flags));
	HAS(4, 7 * PAGE);
	/* across both, and within the first: by themselves */
	ASSERT_EQ(0, dma_map(container, AT - GIB(1) - PAGE, va, 2 * PAGE, self->flags));
	EXPECT_SOUND(has(self, 4, 7 * PAGE, 2));
	ASSERT_SOUND(memory_alloc(&large, HUGETLB_2M, MIB(34)));
	ASSERT_EQ(0, dma_map(container, AT + MIB(16), large.va, MIB(34), self->flags));
	EXPECT_SOUND(has(self, 4, 7 * PAGE, 2 + MIB(34) / PAGE));
	/* A neighbour on either side, contiguous with it. */
	ASSERT_EQ(0, dma_map(container, AT + MIB(14), large.va, MIB(2), self->flags));
	ASSERT_EQ(0, dma_map(container, AT + MIB(50), large.va, MIB(2), self->flags));
	EXPECT_EQ(-EEXIST, dma_map(container, AT + MIB(50) - PAGE, large.va, PAGE, self->flags));
	EXPECT_EQ(-EEXIST, dma_map(container, AT + MIB(10), large.va, GIB(2), self->flags));

	ASSERT_SOUND(leaves_tile(&expected, AT - GIB(1) - PAGE, va, 2 * PAGE, UPTO_2M, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT - PAGE, va - PAGE + SIZE, PAGE, UPTO_2M, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT, va, PAGE, UPTO_2M, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT + PAGE, va, PAGE, UPTO_2M, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT + 2 * PAGE, va + 2 * PAGE, PAGE, UPTO_2M,
				 VFIO_DMA_MAP_FLAG_READ));
	ASSERT_SOUND(leaves_tile(&expected, AT + 3 * PAGE, va + 3 * PAGE, PAGE, UPTO_2M, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT + 4 * PAGE, va + 3 * PAGE, PAGE, UPTO_2M, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT + SIZE - PAGE, va + SIZE - PAGE, PAGE, UPTO_2M,
				 READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT + MIB(14), large.va, MIB(2), UPTO_2M, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT + MIB(16), large.va, MIB(34), UPTO_2M, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, AT + MIB(50), large.va, MIB(2), UPTO_2M, READ_WRITE));
	EXPECT_SOUND(vmm_has_leaves(&self->vmm, &expected));
	leaves_free(&expected);
	/* Across all of them. */
	size = GIB(3);
	ASSERT_EQ(0, dma_unmap(container, AT - GIB(2), &size, 0));
	EXPECT_EQ(9 * PAGE + MIB(38), size);
	HAS(0, 0);
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	memory_free(&large);
}

/* --- limits ----------------------------------------------------------------- */

FIXTURE(limits) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(limits)
{
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
}

FIXTURE_TEARDOWN(limits)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(module_require(JOIN_ON));
	memory_free(&self->memory);
	huge_pages_release();
}

static problem available(struct vmm *vmm, int expected)
{
	struct info info;
	problem wrong = container_info(vmm->container, &info);

	if (!wrong && info.dma_avail != expected)
		wrong = problem_is("%d mappings are available, not %d", info.dma_avail, expected);
	return wrong;
}

/* Beyond the limit of joined mappings pieces are mappings of their own, up to theirs. */
TEST_F_TIMEOUT(limits, both, TIMEOUT)
{
	static const int per_entry = GIB(1) / PAGE;
	int container;

	ASSERT_SOUND(module_require(JOIN_ON " joined_entry_limit=2 dma_entry_limit=1"));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 2));
	container = self->vmm.container;
	EXPECT_SOUND(available(&self->vmm, 1 + 2 * per_entry));
	/* Registers look like any piece until they are found not to be memory: nothing stays. */
	ASSERT_EQ(0, dma_map(container, AT - PAGE, self->memory.va, 2 * PAGE, READ_WRITE));
	EXPECT_SOUND(available(&self->vmm, 2 * per_entry));
	EXPECT_EQ(-ENOSPC, dma_map(container, AT + MIB(2),
				   (void *)self->vmm.devices[1].edu.registers, PAGE, READ_WRITE));
	EXPECT_SOUND(available(&self->vmm, 2 * per_entry));
	EXPECT_SOUND(account_rose(&self->vmm.before, 2, 2));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT - PAGE, self->memory.va, 2 * PAGE, ONLY_4K,
				   READ_WRITE));
	ASSERT_SOUND(dma_unmap_exactly(container, AT - PAGE, 2 * PAGE));
	/* Each in a gigabyte of its own. */
	for (int i = 0; i < 4; i++) {
		int ret = dma_map(container, AT + i * GIB(1), self->memory.va, PAGE, READ_WRITE);

		EXPECT_EQ(i < 3 ? 0 : -ENOSPC, ret);
	}
	EXPECT_SOUND(available(&self->vmm, 0));
	EXPECT_EQ(-ENOSPC, dma_map(container, GIB(16), self->memory.va, PAGE, READ_WRITE));
	/* There is room in the joined ones; an overlap is reported first. */
	EXPECT_EQ(0, dma_map(container, AT + PAGE, self->memory.va + PAGE, PAGE, READ_WRITE));
	EXPECT_EQ(-EEXIST, dma_map(container, AT, self->memory.va, PAGE, READ_WRITE));
	EXPECT_EQ(-EEXIST, dma_map(container, AT + GIB(2), self->memory.va, PAGE, READ_WRITE));
	EXPECT_SOUND(account_rose(&self->vmm.before, 4, 4));
	/* Registers have no entry here, until one is free. */
	EXPECT_EQ(-ENOSPC, dma_map(container, AT + MIB(2),
				   (void *)self->vmm.devices[1].edu.registers, PAGE, READ_WRITE));
	EXPECT_SOUND(account_rose(&self->vmm.before, 4, 4));
	ASSERT_SOUND(dma_unmap_exactly(container, AT + GIB(2), PAGE));
	EXPECT_SOUND(available(&self->vmm, 1));
	ASSERT_EQ(0, dma_map(container, AT + MIB(2), (void *)self->vmm.devices[1].edu.registers,
			     PAGE, READ_WRITE));
	EXPECT_SOUND(available(&self->vmm, 0));
	EXPECT_SOUND(account_rose(&self->vmm.before, 3, 3));
	ASSERT_SOUND(dma_unmap_exactly(container, AT + MIB(2), PAGE));
	ASSERT_SOUND(dma_unmap_exactly(container, AT + GIB(1), PAGE));
	EXPECT_SOUND(available(&self->vmm, 1 + per_entry));
}

/* More pieces than there may be mappings cannot get other addresses: they stay joined. */
TEST_F_TIMEOUT(limits, update_vaddr, TIMEOUT)
{
	static const uint32_t flags = VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL;
	struct vfio_pgsize_stats stats;
	uint64_t size = 0;
	int container;

	ASSERT_SOUND(module_require(JOIN_ON " dma_entry_limit=511"));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	container = self->vmm.container;
	for (int i = 0; i < 512; i++)
		ASSERT_EQ(0, dma_map(container, AT + i * PAGE, self->memory.va + i * PAGE, PAGE,
				     READ_WRITE));
	EXPECT_EQ(-ENOSPC, dma_unmap(container, 0, &size, flags));
	ASSERT_EQ(0, get_stats(container, &stats));
	EXPECT_EQ(1, stats.joined_entries);
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, MIB(2), UPTO_2M, READ_WRITE));
	ASSERT_SOUND(dma_unmap_exactly(container, AT + MIB(2) - PAGE, PAGE));
	ASSERT_EQ(0, dma_unmap(container, 0, &size, flags));
	EXPECT_EQ(MIB(2) - PAGE, size);
	ASSERT_EQ(0, get_stats(container, &stats));
	EXPECT_EQ(0, stats.joined_entries);
	EXPECT_SOUND(account_rose(&self->vmm.before, 511, 511));
	size = 0;
	ASSERT_EQ(0, dma_unmap(container, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL));
	EXPECT_EQ(MIB(2) - PAGE, size);
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

/* The parameter is for containers that are set up later; the flag is for those that know it. */
TEST_F_TIMEOUT(limits, not_asked_for, TIMEOUT)
{
	struct vfio_pgsize_stats stats;
	int container;

	ASSERT_SOUND(module_require(JOIN_OFF));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	container = self->vmm.container;
	EXPECT_SOUND(available(&self->vmm, UINT16_MAX));
	for (int i = 0; i < 512; i++)
		ASSERT_EQ(0, dma_map(container, AT + i * PAGE, self->memory.va + i * PAGE, PAGE,
				     READ_WRITE));
	EXPECT_SOUND(available(&self->vmm, UINT16_MAX - 512));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, MIB(2), ONLY_4K, READ_WRITE));
	ASSERT_EQ(0, get_stats(container, &stats));
	EXPECT_EQ(0, stats.joined);
	EXPECT_EQ(-EINVAL, dma_map(container, AT + MIB(2), self->memory.va, PAGE,
				   READ_WRITE | VFIO_PGSIZE_MAP_JOINED));
}

/* Nor are mappings joined in a container that can ask for it, and does not. */
TEST_F_TIMEOUT(limits, without_the_flag, TIMEOUT)
{
	struct vfio_pgsize_stats stats;

	ASSERT_SOUND(module_require(JOIN_ON));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, dma_map(self->vmm.container, AT + i * PAGE, self->memory.va + i * PAGE,
				     PAGE, READ_WRITE));
	EXPECT_SOUND(available(&self->vmm, UINT16_MAX - 2));
	ASSERT_EQ(0, get_stats(self->vmm.container, &stats));
	EXPECT_EQ(0, stats.joined_entries);
}

TEST_PROGRAM("Maps in pieces that are joined, and checks bounds, leaves and entries.")
