// SPDX-License-Identifier: GPL-2.0
/*
 * Joined mappings that follow the RMP: pieces become leaves of 2M that are split and merged as those
 * of other mappings are, while pieces come and go.
 */
#include "harness.h"
#include "module.h"
#include "pieces.h"
#include "rmp.h"
#include "scene.h"

#define SIZE	MIB(8)
#define PAGES	(SIZE / PAGE)

FIXTURE(joined) {
	struct vmm vmm;
	struct memory memory;
	struct device device;
	struct guest guest;
	struct vfio_pgsize_stats stats;
	struct rmp_counts counts;
	uint32_t flags;		/* of MAP_DMA */
	int others;		/* joined mappings with the device's scratch page */
};

FIXTURE_VARIANT(joined) {
	unsigned long type;
};

FIXTURE_VARIANT_ADD(joined, type1v2) { .type = VFIO_TYPE1v2_IOMMU };
FIXTURE_VARIANT_ADD(joined, pgsize) { .type = VFIO_PGSIZE_IOMMU };

FIXTURE_SETUP(joined)
{
	bool asks = variant->type == VFIO_PGSIZE_IOMMU;

	ASSERT_SOUND(module_require(JOIN_ON));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	fill_with_pattern(self->memory.va, SIZE);
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
	ASSERT_SOUND(device_start(&self->device, &self->vmm, 0));
	self->flags = READ_WRITE | (asks ? VFIO_PGSIZE_MAP_JOINED : 0);
	self->others = !asks;
	STATS(&self->stats);
	ASSERT_SOUND(rmp_counts(&self->counts));
}

FIXTURE_TEARDOWN(joined)
{
	struct rmp_counts now = {};

	EXPECT_SOUND(rmp_counts(&now));
	EXPECT_EQ(self->counts.dma_faults, now.dma_faults);
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, &self->device));
	EXPECT_EQ(0, follow_followers());
}

static problem map_page(FIXTURE_DATA(joined) *self, uint64_t at)
{
	return vmm_map(&self->vmm, AT + at, self->memory.va + at, PAGE, self->flags);
}

/* Each page in a call of its own, and in no order. */
static problem map_all(FIXTURE_DATA(joined) *self)
{
	problem wrong = NULL;

	for (uint64_t i = 0; !wrong && i < PAGES; i++)
		wrong = map_page(self, i * 37 % PAGES * PAGE);
	return wrong;
}

/* All is mapped, and 4K leaves are in the pieces whose bits are set; but nothing is at `hole`. */
static problem has_hole(FIXTURE_DATA(joined) *self, uint64_t hole, uint64_t small)
{
	uint64_t page = SCRATCH_IOVA;
	struct leaves expected = {};
	problem wrong = NULL;

	for (uint64_t at = 0; !wrong && at < SIZE; at += MIB(2)) {
		bool has_it = at == (hole & -MIB(2));
		uint64_t size = has_it ? hole - at : MIB(2);
		uint64_t sizes = has_it || small >> at / MIB(2) & 1 ? ONLY_4K : UPTO_2M;

		if (size)
			wrong = leaves_tile(&expected, AT + at, self->memory.va + at, size, sizes,
					    READ_WRITE);
		if (!wrong && has_it)
			wrong = leaves_tile(&expected, AT + hole + PAGE,
					    self->memory.va + hole + PAGE, MIB(2) - size - PAGE,
					    ONLY_4K, READ_WRITE);
	}
	leaves_add(&expected, page, PAGE, PAGE, READ_WRITE);
	if (!wrong)
		wrong = vmm_has_leaves(&self->vmm, &expected);
	leaves_free(&expected);
	return wrong;
}

static problem entries(FIXTURE_DATA(joined) *self, uint64_t pages)
{
	struct vfio_pgsize_stats stats;
	problem wrong = follow_stats(&self->vmm, &stats);

	if (wrong || (stats.joined_entries == 1ULL + self->others &&
		      stats.joined == (pages + self->others) * PAGE))
		return wrong;
	return problem_is("%llu joined mappings of %llu bytes", stats.joined_entries, stats.joined);
}

#define COUNTED(splits, merges) \
	EXPECT_SOUND(follow_counted(&self->vmm, &self->stats, splits, merges))
#define AGREES() EXPECT_SOUND(follow_agrees(&self->vmm, 1))
#define MAP_PAGE(at) ASSERT_SOUND(map_page(self, at))
#define UNMAP_PAGE(at) ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + (at), PAGE))

/* A page of a leaf that pieces have become is assigned, and shared again. */
TEST_F_TIMEOUT(joined, split_and_merged, TIMEOUT)
{
	POLICY(FOLLOW);
	ASSERT_SOUND(map_all(self));
	EXPECT_SOUND(entries(self, PAGES));
	SMALL(0);
	/* That each 2M became whole was counted, too. */
	COUNTED(0, SIZE / MIB(2));
	STATS(&self->stats);
	ASSIGN(PAGE_OF(1, 7));
	SMALL(BIT(1));
	COUNTED(1, 0);
	WORKS(PAGE_OF(1, 6));
	WORKS(PAGE_OF(1, 8));
	AGREES();
	SHARE(PAGE_OF(1, 7));
	SMALL_SOON(0);
	COUNTED(1, 1);
	WORKS(PAGE_OF(1, 7));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(3), true));
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(3)));
	SMALL(BIT(3));
	AGREES();
	EXPECT_SOUND(entries(self, PAGES));
}

/* A piece of a leaf that follows goes, and comes again while a page beside it is assigned. */
TEST_F_TIMEOUT(joined, pieces_come_and_go, TIMEOUT)
{
	POLICY(FOLLOW);
	ASSERT_SOUND(map_all(self));
	UNMAP_PAGE(PAGE_OF(2, 100));
	EXPECT_SOUND(has_hole(self, PAGE_OF(2, 100), 0));
	EXPECT_SOUND(entries(self, PAGES - 1));
	ASSIGN(PAGE_OF(2, 101));
	ASSIGN(PAGE_OF(0, 511));
	EXPECT_SOUND(has_hole(self, PAGE_OF(2, 100), BIT(0)));
	AGREES();
	MAP_PAGE(PAGE_OF(2, 100));
	SMALL(BIT(0) | BIT(2));
	WORKS(PAGE_OF(2, 100));
	WORKS(PAGE_OF(2, 102));
	AGREES();
	SHARE(PAGE_OF(2, 101));
	SHARE(PAGE_OF(0, 511));
	SMALL_SOON(0);
	WORKS(PAGE_OF(2, 101));
	/* Of what was split, and is small. */
	ASSIGN(PAGE_OF(1, 0));
	UNMAP_PAGE(PAGE_OF(1, 0));
	EXPECT_SOUND(has_hole(self, PAGE_OF(1, 0), 0));
	SHARE(PAGE_OF(1, 0));
	MAP_PAGE(PAGE_OF(1, 0));
	SMALL_SOON(0);
	AGREES();
	EXPECT_SOUND(entries(self, PAGES));
}

/* The policy comes when pieces are there, with a hole, and goes again. */
TEST_F_TIMEOUT(joined, policy_comes_later, TIMEOUT)
{
	POLICY(0);
	ASSERT_SOUND(map_all(self));
	UNMAP_PAGE(PAGE_OF(0, 5));
	ASSIGN(PAGE_OF(2, 9));
	EXPECT_SOUND(has_hole(self, PAGE_OF(0, 5), 0));
	POLICY(FOLLOW);
	EXPECT_EQ(1, follow_followers());
	EXPECT_SOUND(has_hole(self, PAGE_OF(0, 5), BIT(2)));
	AGREES();
	ASSIGN(PAGE_OF(3, 0));
	EXPECT_SOUND(has_hole(self, PAGE_OF(0, 5), BIT(2) | BIT(3)));
	AGREES();
	SHARE(PAGE_OF(2, 9));
	SHARE(PAGE_OF(3, 0));
	MAP_PAGE(PAGE_OF(0, 5));
	SMALL_SOON(0);
	POLICY(0);
	EXPECT_EQ(0, follow_followers());
	ASSIGN(PAGE_OF(3, 0));
	SMALL(0);
	SHARE(PAGE_OF(3, 0));
}

TEST_PROGRAM("Joined mappings whose leaves follow the RMP.")
