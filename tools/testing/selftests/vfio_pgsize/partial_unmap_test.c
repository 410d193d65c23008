// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO_IOMMU_UNMAP_DMA of a part of a mapping: that part is gone, the rest keeps its leaves, and
 * each piece is its own mapping from then on.
 */
#include "harness.h"
#include "module.h"
#include "pages.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(16)

/* Mapped pieces of the memory, at the same offset from AT; {} ends the list. */
struct piece {
	uint64_t at;
	uint64_t size;
};

#define PIECES(...) ((const struct piece[]){ __VA_ARGS__, {} })
#define NO_PIECES ((const struct piece[]){ {} })

FIXTURE(partial) {
	struct vmm vmm;
	struct memory memory;
	uint64_t sizes;
};

FIXTURE_VARIANT(partial) {
	enum backing backing;
	uint64_t size;
	uint64_t sizes;
};

FIXTURE_VARIANT_ADD(partial, anon_4k) {
	.backing = ANON_4K, .size = SIZE, .sizes = UPTO_2M,
};
FIXTURE_VARIANT_ADD(partial, hugetlb_2m) {
	.backing = HUGETLB_2M, .size = SIZE, .sizes = UPTO_2M,
};
FIXTURE_VARIANT_ADD(partial, hugetlb_2m_as_4k) {
	.backing = HUGETLB_2M, .size = SIZE, .sizes = ONLY_4K,
};
FIXTURE_VARIANT_ADD(partial, hugetlb_1g) {
	.backing = HUGETLB_1G, .size = GIB(1), .sizes = UPTO_1G,
};
FIXTURE_VARIANT_ADD(partial, memfd) {
	.backing = MEMFD, .size = SIZE, .sizes = UPTO_2M,
};

FIXTURE_SETUP(partial)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, variant->size));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	self->sizes = variant->sizes;
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, self->sizes));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, self->memory.size, READ_WRITE));
}

FIXTURE_TEARDOWN(partial)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

static problem has_pieces(FIXTURE_DATA(partial) *self, const struct piece *pieces)
{
	struct leaves expected = {};
	problem wrong = NULL;
	uint64_t pages = 0;

	for (; !wrong && pieces->size; pieces++) {
		wrong = leaves_tile(&expected, AT + pieces->at, self->memory.va + pieces->at,
				    pieces->size, self->sizes & self->vmm.sizes, READ_WRITE);
		pages += pieces->size / PAGE;
	}
	if (!wrong)
		wrong = vmm_has_leaves(&self->vmm, &expected);
	leaves_free(&expected);
	return wrong ? wrong : account_rose(&self->vmm.before, pages, pages);
}

static int mappings(struct vmm *vmm)
{
	struct info info;

	return container_info(vmm->container, &info) ? -1 : UINT16_MAX - info.dma_avail;
}

#define UNMAP(at, size) \
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + (at), size))
/* Unmap a range of which only this much is mapped. */
#define UNMAP_OF(at, range, mapped) do {					\
	uint64_t __size = range;						\
										\
	ASSERT_EQ(0, dma_unmap(self->vmm.container, AT + (at), &__size, 0));	\
	EXPECT_EQ(mapped, __size);						\
} while (0)
#define HAS(...) EXPECT_SOUND(has_pieces(self, PIECES(__VA_ARGS__)))
#define MOVES(at, size) EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + (at), \
						     self->memory.va + (at), size))

TEST_F_TIMEOUT(partial, start, TIMEOUT)
{
	uint64_t size = self->memory.size;

	UNMAP(0, PAGE);
	HAS({ PAGE, size - PAGE });
	EXPECT_EQ(1, mappings(&self->vmm));
	UNMAP_OF(0, MIB(2), MIB(2) - PAGE);
	HAS({ MIB(2), size - MIB(2) });
	UNMAP(MIB(2), MIB(3));
	HAS({ MIB(5), size - MIB(5) });
	MOVES(MIB(5), size - MIB(5));
	EXPECT_EQ(1, mappings(&self->vmm));
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, AT + MIB(5) - PAGE));
}

TEST_F_TIMEOUT(partial, end, TIMEOUT)
{
	uint64_t size = self->memory.size;

	UNMAP(size - PAGE, PAGE);
	HAS({ 0, size - PAGE });
	UNMAP_OF(size - MIB(2), MIB(4), MIB(2) - PAGE);
	HAS({ 0, size - MIB(2) });
	UNMAP(size - MIB(5), MIB(3));
	HAS({ 0, size - MIB(5) });
	MOVES(0, size - MIB(5));
	EXPECT_EQ(1, mappings(&self->vmm));
	EXPECT_SOUND(vmm_store_faults(&self->vmm, 0, AT + size - MIB(5)));
}

TEST_F_TIMEOUT(partial, middle, TIMEOUT)
{
	uint64_t size = self->memory.size;

	UNMAP(MIB(3), PAGE);
	HAS({ 0, MIB(3) }, { MIB(3) + PAGE, size - MIB(3) - PAGE });
	EXPECT_EQ(2, mappings(&self->vmm));
	MOVES(0, MIB(3));
	MOVES(MIB(3) + PAGE, size - MIB(3) - PAGE);
	UNMAP(MIB(6), MIB(2));
	HAS({ 0, MIB(3) }, { MIB(3) + PAGE, MIB(3) - PAGE }, { MIB(8), size - MIB(8) });
	EXPECT_EQ(3, mappings(&self->vmm));
	/* The hole can be filled with another mapping. */
	ASSERT_SOUND(vmm_map(&self->vmm, AT + MIB(3), self->memory.va + MIB(3), PAGE, READ_WRITE));
	HAS({ 0, MIB(3) }, { MIB(3), PAGE }, { MIB(3) + PAGE, MIB(3) - PAGE },
	    { MIB(8), size - MIB(8) });
	EXPECT_EQ(4, mappings(&self->vmm));
	EXPECT_EQ(-EEXIST, dma_map(self->vmm.container, AT + MIB(2), self->memory.va, PAGE,
				   READ_WRITE));
	/* From the middle of the first to the middle of the last, with a hole between. */
	UNMAP_OF(MIB(1) + PAGE, MIB(8), MIB(6));
	HAS({ 0, MIB(1) + PAGE }, { MIB(9) + PAGE, size - MIB(9) - PAGE });
	EXPECT_EQ(2, mappings(&self->vmm));
	MOVES(0, MIB(1) + PAGE);
	UNMAP_OF(0, GIB(2), size - MIB(8));
	EXPECT_SOUND(has_pieces(self, NO_PIECES));
	EXPECT_EQ(0, mappings(&self->vmm));
}

/* Pieces behave as any mapping: for later groups, policies, close. */
TEST_F_TIMEOUT(partial, pieces_live_on, TIMEOUT)
{
	uint64_t size = self->memory.size;

	UNMAP(MIB(2) + PAGE, MIB(2));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	HAS({ 0, MIB(2) + PAGE }, { MIB(4) + PAGE, size - MIB(4) - PAGE });
	self->sizes = ONLY_4K;
	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K));
	HAS({ 0, MIB(2) + PAGE }, { MIB(4) + PAGE, size - MIB(4) - PAGE });
	UNMAP(MIB(1), PAGE);
	self->sizes = UPTO_2M;
	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, UPTO_2M));
	HAS({ 0, MIB(1) }, { MIB(1) + PAGE, MIB(1) }, { MIB(4) + PAGE, size - MIB(4) - PAGE });
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT + MIB(1) + PAGE,
				     self->memory.va + MIB(1) + PAGE, MIB(1)));
}

/* --- stateful mappings ---------------------------------------------------- */

FIXTURE(stateful) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
};

FIXTURE_SETUP(stateful)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, PRIVATE));
}

FIXTURE_TEARDOWN(stateful)
{
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* Both pieces are stateful, and independent of each other. */
TEST_F_TIMEOUT(stateful, cut, TIMEOUT)
{
	struct pages *pages = &self->pages;
	uint64_t size = MIB(8), all = pages->nr;

	ASSERT_SOUND(pages_batch(pages, CHANGES({ MIB(2), MIB(8), SHARED },
						{ MIB(4) + PAGE, PAGE, PRIVATE })));
	ASSERT_SOUND(pages_agree(pages));
	UNMAP_OF(MIB(5), MIB(1), MIB(1));
	ASSERT_SOUND(pages_note(pages, CHANGES({ MIB(5), MIB(1), PRIVATE })));
	EXPECT_EQ(2, mappings(&self->vmm));
	/* The left piece and the right one, separately. */
	EXPECT_SOUND(pages_batch_fails(pages, CHANGES({ MIB(4), PAGE, PRIVATE },
						      { MIB(5), PAGE, SHARED }), ENOENT, 1));
	EXPECT_SOUND(pages_batch_fails(pages, CHANGES({ MIB(5) - PAGE, 2 * PAGE, PRIVATE }),
				       ENOENT, 0));
	EXPECT_SOUND(pages_batch_fails(pages, CHANGES({ MIB(4), MIB(4), SHARED }), ENOENT, 0));
	ASSERT_SOUND(pages_batch(pages, CHANGES({ 0, MIB(5), SHARED }, { MIB(6), PAGE, PRIVATE },
						{ MIB(12), MIB(4), SHARED })));
	{
		struct vfio_pgsize_stats stats;
		struct leaves expected = {};

		pages_leaves(pages, &expected);
		EXPECT_SOUND(vmm_has_leaves(&self->vmm, &expected));
		leaves_free(&expected);
		EXPECT_SOUND(account_rose(&pages->before, pages->nr_shared, pages->nr_shared));
		ASSERT_EQ(0, get_stats(self->vmm.container, &stats));
		EXPECT_EQ(pages->nr_shared * PAGE, stats.shared);
		EXPECT_EQ((all - 256) * PAGE, stats.stateful);
	}
	UNMAP(0, MIB(5));
	/* The end, including private pages; only mapped bytes count. */
	size = MIB(9);
	ASSERT_EQ(0, dma_unmap(self->vmm.container, AT + MIB(7), &size, 0));
	EXPECT_EQ(MIB(9), size);
	EXPECT_SOUND(account_rose(&pages->before, 255, 255));
	EXPECT_EQ(1, mappings(&self->vmm));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + MIB(6) + PAGE,
				     self->memory.va + MIB(6) + PAGE, MIB(1) - PAGE));
}

/* --- what is refused ------------------------------------------------------ */

FIXTURE(refused) {
	struct memory memory;
	struct vmm vmm;
};

FIXTURE_SETUP(refused)
{
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, MIB(8)));
}

FIXTURE_TEARDOWN(refused)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(module_require(""));
	memory_free(&self->memory);
	huge_pages_release();
}

static problem is_whole(FIXTURE_DATA(refused) *self)
{
	problem wrong = vmm_has_tiles(&self->vmm, AT, self->memory.va, MIB(8), UPTO_2M, READ_WRITE);

	return wrong ? wrong : account_rose(&self->vmm.before, MIB(8) / PAGE, MIB(8) / PAGE);
}

TEST_F_TIMEOUT(refused, too_many_mappings, TIMEOUT)
{
	uint64_t size = PAGE;

	ASSERT_SOUND(module_require("dma_entry_limit=2"));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, MIB(4), READ_WRITE));
	ASSERT_SOUND(vmm_map(&self->vmm, AT + MIB(4), self->memory.va + MIB(4), MIB(4),
			     READ_WRITE | STATEFUL | VFIO_PGSIZE_MAP_SHARED));
	EXPECT_SOUND(is_whole(self));
	EXPECT_EQ(-ENOSPC, dma_unmap(self->vmm.container, AT + MIB(1), &size, 0));
	EXPECT_SOUND(is_whole(self));
	EXPECT_EQ(-ENOSPC, dma_unmap(self->vmm.container, AT + MIB(5), &size, 0));
	EXPECT_SOUND(is_whole(self));
	/* Unmapping the ends needs no further mapping, of one or of two. */
	UNMAP(MIB(3), MIB(2));
	UNMAP(0, PAGE);
	UNMAP(MIB(8) - PAGE, PAGE);
	EXPECT_SOUND(account_rose(&self->vmm.before, MIB(6) / PAGE - 2, MIB(6) / PAGE - 2));
	/* With one of them gone the other can be divided. */
	UNMAP(PAGE, MIB(3) - PAGE);
	UNMAP(MIB(6), PAGE);
	EXPECT_SOUND(account_rose(&self->vmm.before, MIB(3) / PAGE - 2, MIB(3) / PAGE - 2));
}

/* A type1v2 container behaves like type1, though the module serves it. */
TEST_F_TIMEOUT(refused, type1v2, TIMEOUT)
{
	static const struct piece parts[] = {
		{ 0, PAGE }, { MIB(2), PAGE }, { MIB(8) - PAGE, PAGE }, { MIB(4), MIB(8) },
	};
	const struct vfio_pgsize_state change = { AT, PAGE, SHARED };
	uint32_t nr = 1;

	ASSERT_SOUND(module_require("serve_type1v2=1"));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_EQ(VFIO_PGSIZE_VERSION, container_extension(self->vmm.container, VFIO_PGSIZE_IOMMU));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, MIB(8), READ_WRITE));
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		uint64_t size = parts[i].size;

		EXPECT_EQ(-EINVAL, dma_unmap(self->vmm.container, AT + parts[i].at, &size, 0));
		EXPECT_SOUND(is_whole(self));
	}
	/* Nor does it have page states. */
	EXPECT_EQ(-ENOTTY, set_state(self->vmm.container, &change, &nr));
	EXPECT_EQ(-EINVAL, dma_map(self->vmm.container, GIB(8), self->memory.va, MIB(2),
				   READ_WRITE | STATEFUL));
	EXPECT_SOUND(is_whole(self));
}

/* Registers of another device: nothing is pinned, and partial unmap works as well. */
TEST_F_TIMEOUT(refused, not_registers, TIMEOUT)
{
	struct leaves expected = {};
	struct edu *peer;

	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 2));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	peer = &self->vmm.devices[1].edu;
	ASSERT_SOUND(vmm_map(&self->vmm, AT, (void *)peer->registers, EDU_BAR_SIZE, READ_WRITE));
	UNMAP(KIB(64), PAGE);
	leaves_tile_phys(&expected, AT, peer->bar_phys, KIB(64), ONLY_4K, READ_WRITE);
	leaves_tile_phys(&expected, AT + KIB(68), peer->bar_phys + KIB(68), EDU_BAR_SIZE - KIB(68),
			 ONLY_4K, READ_WRITE);
	EXPECT_SOUND(vmm_has_leaves(&self->vmm, &expected));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	leaves_free(&expected);
	/* They have no state. */
	EXPECT_EQ(-EFAULT, dma_map(self->vmm.container, GIB(8), (void *)peer->registers,
				   EDU_BAR_SIZE, READ_WRITE | STATEFUL | VFIO_PGSIZE_MAP_SHARED));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

TEST_PROGRAM("Unmaps parts of mappings and checks what is gone and what stays.")
