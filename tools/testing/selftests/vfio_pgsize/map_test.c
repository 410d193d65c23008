// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of every kind, mapped under an earlier policy: the leaves are exactly those that the
 * physical addresses allow, and bytes go through.
 */
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

FIXTURE(map) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_VARIANT(map) {
	enum backing backing;
	uint64_t size;
	uint64_t iova;
	uint64_t skip;		/* offset of the mapped range in the memory */
	uint64_t huge;		/* expected leaf size if any is allowed */
};

FIXTURE_VARIANT_ADD(map, anon_4k) {
	.backing = ANON_4K, .size = MIB(4), .iova = GIB(1),
};
FIXTURE_VARIANT_ADD(map, thp) {
	.backing = THP, .size = MIB(16), .iova = GIB(1), .huge = MIB(2),
};
FIXTURE_VARIANT_ADD(map, hugetlb_2m) {
	.backing = HUGETLB_2M, .size = MIB(64), .iova = GIB(1), .huge = MIB(2),
};
FIXTURE_VARIANT_ADD(map, hugetlb_1g) {
	.backing = HUGETLB_1G, .size = GIB(1), .iova = GIB(4), .huge = GIB(1),
};
FIXTURE_VARIANT_ADD(map, memfd) {
	.backing = MEMFD, .size = MIB(4), .iova = GIB(1),
};
FIXTURE_VARIANT_ADD(map, memfd_2m) {
	.backing = MEMFD_2M, .size = MIB(16), .iova = GIB(1), .huge = MIB(2),
};
FIXTURE_VARIANT_ADD(map, mixed) {
	.backing = MIXED, .size = MIB(16), .iova = GIB(1), .huge = MIB(2),
};
/* IOVA and address differ by a page modulo 2M: no large leaf fits. */
FIXTURE_VARIANT_ADD(map, iova_off_by_4k) {
	.backing = HUGETLB_2M, .size = MIB(8), .iova = GIB(1) + PAGE,
};
/* Both start a page after a multiple of 2M: small leaves up to the next one. */
FIXTURE_VARIANT_ADD(map, both_off_by_4k) {
	.backing = HUGETLB_2M, .size = MIB(8), .iova = GIB(1) + PAGE, .skip = PAGE,
	.huge = MIB(2),
};
FIXTURE_VARIANT_ADD(map, hugetlb_1g_off_by_2m) {
	.backing = HUGETLB_1G, .size = GIB(1), .iova = GIB(4) + MIB(2), .huge = MIB(2),
};
FIXTURE_VARIANT_ADD(map, one_page) {
	.backing = ANON_4K, .size = PAGE, .iova = GIB(1),
};
FIXTURE_VARIANT_ADD(map, from_zero) {
	.backing = THP, .size = MIB(4), .iova = 0, .huge = MIB(2),
};
FIXTURE_VARIANT_ADD(map, high) {
	.backing = THP, .size = MIB(4), .iova = 1ULL << 46, .huge = MIB(2),
};

FIXTURE_SETUP(map)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, variant->size));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(map)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* A MAP makes leaves of these sizes, DMA goes through them, UNMAP removes all. */
static void map_under(struct __test_metadata *_metadata, FIXTURE_DATA(map) *self,
		      const FIXTURE_VARIANT(map) *variant, uint64_t sizes)
{
	uint8_t *va = self->memory.va + variant->skip;
	uint64_t size = self->memory.size - variant->skip;
	struct leaves found = {};
	uint64_t large;

	ASSERT_SOUND(vmm_policy(&self->vmm, 0, sizes));
	ASSERT_SOUND(vmm_map(&self->vmm, variant->iova, va, size, READ_WRITE));
	EXPECT_SOUND(account_rose(&self->vmm.before, size / PAGE, size / PAGE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, variant->iova, va, size, sizes, READ_WRITE));

	/* The tiling above does not detect leaves that are too small for the memory. */
	ASSERT_SOUND(leaves_query(&found, self->vmm.container, 0, variant->iova, size));
	for (large = 0; found.nr; found.nr--)
		if (found.runs[found.nr - 1].pgsize > large)
			large = found.runs[found.nr - 1].pgsize;
	leaves_free(&found);
	EXPECT_LE(variant->huge & sizes, large);

	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, variant->iova, va, size));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, variant->iova, size));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

TEST_F_TIMEOUT(map, any_size, TIMEOUT)
{
	map_under(_metadata, self, variant, ANY_SIZE);
}

TEST_F_TIMEOUT(map, only_4k, TIMEOUT)
{
	map_under(_metadata, self, variant, ONLY_4K);
}

TEST_F_TIMEOUT(map, upto_2m, TIMEOUT)
{
	map_under(_metadata, self, variant, UPTO_2M);
}

TEST_F_TIMEOUT(map, upto_1g, TIMEOUT)
{
	map_under(_metadata, self, variant, UPTO_1G);
}

/* Sizes between those of the page table's levels: 16K is several equal entries. */
TEST_F_TIMEOUT(map, upto_16k, TIMEOUT)
{
	map_under(_metadata, self, variant, KIB(4) | KIB(16));
}

/* Closing unmaps and unpins what is still mapped: vmm_close() checks. */
TEST_F_TIMEOUT(map, left_to_close, TIMEOUT)
{
	ASSERT_SOUND(vmm_map(&self->vmm, variant->iova, self->memory.va, self->memory.size,
			     READ_WRITE));
	EXPECT_SOUND(account_rose(&self->vmm.before, self->memory.size / PAGE,
				  self->memory.size / PAGE));
}

FIXTURE(access) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(access)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, MIB(1)));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(access)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
}

/* Memory that is read-only for the process can be mapped read-only. */
TEST_F_TIMEOUT(access, read_only_memory, TIMEOUT)
{
	uint8_t *va = self->memory.va;
	uint8_t *copy = va + self->memory.size - PAGE;
	uint64_t size = self->memory.size - PAGE;

	fill_with_pattern(va, PAGE);
	ASSERT_EQ(0, mprotect(va, size, PROT_READ));
	EXPECT_EQ(-EFAULT, dma_map(self->vmm.container, GIB(1), va, size, READ_WRITE));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(1), va, size, VFIO_DMA_MAP_FLAG_READ));
	EXPECT_SOUND(account_rose(&self->vmm.before, size / PAGE, size / PAGE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, GIB(1), va, size, ANY_SIZE,
				   VFIO_DMA_MAP_FLAG_READ));

	ASSERT_SOUND(vmm_map(&self->vmm, GIB(2), copy, PAGE, READ_WRITE));
	EXPECT_SOUND(edu_fetch(&self->vmm.devices[0].edu, GIB(1), PAGE));
	EXPECT_SOUND(edu_store(&self->vmm.devices[0].edu, GIB(2), PAGE));
	EXPECT_EQ(0, memcmp(va, copy, PAGE));
	EXPECT_SOUND(vmm_store_faults(&self->vmm, 0, GIB(1) + PAGE));
	EXPECT_EQ(0, va[PAGE]);
}

/* An untouched page is faulted in before the device gets it. */
TEST_F_TIMEOUT(access, untouched_read_only, TIMEOUT)
{
	uint8_t *va = mmap(NULL, MIB(1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *from = self->memory.va;

	ASSERT_NE(MAP_FAILED, va);
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(1), va, MIB(1), VFIO_DMA_MAP_FLAG_READ));
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(2), from, PAGE, READ_WRITE));
	fill_with_pattern(va, PAGE);
	EXPECT_SOUND(edu_fetch(&self->vmm.devices[0].edu, GIB(1), PAGE));
	EXPECT_SOUND(edu_store(&self->vmm.devices[0].edu, GIB(2), PAGE));
	EXPECT_EQ(0, memcmp(va, from, PAGE));
}

TEST_F_TIMEOUT(access, write_only, TIMEOUT)
{
	uint8_t *va = self->memory.va;

	ASSERT_SOUND(vmm_map(&self->vmm, GIB(1), va, MIB(1), VFIO_DMA_MAP_FLAG_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, GIB(1), va, MIB(1), ANY_SIZE,
				   VFIO_DMA_MAP_FLAG_WRITE));
	memset(va, 0x5a, PAGE);
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, GIB(1)));
	/* The buffer of a device that read nothing does not contain the memory's pattern. */
	EXPECT_SOUND(edu_store(&self->vmm.devices[0].edu, GIB(1) + PAGE, PAGE));
	EXPECT_NE(0, memcmp(va, va + PAGE, PAGE));
}

/* Leaves end where their mapping ends, even if the memory is contiguous. */
TEST_F_TIMEOUT(access, neighbours_stay_apart, TIMEOUT)
{
	struct leaves expected = {};
	struct memory huge = {};
	uint64_t half = MIB(1);

	ASSERT_SOUND(memory_alloc(&huge, HUGETLB_2M, MIB(2)));
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(1), huge.va, half, READ_WRITE));
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(1) + half, huge.va + half, half, READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, GIB(1), huge.va, half, ANY_SIZE & self->vmm.sizes,
				 READ_WRITE));
	ASSERT_SOUND(leaves_tile(&expected, GIB(1) + half, huge.va + half, half,
				 ANY_SIZE & self->vmm.sizes, READ_WRITE));
	EXPECT_SOUND(vmm_has_leaves(&self->vmm, &expected));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, GIB(1), half));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, GIB(1) + half, huge.va + half, half, ANY_SIZE,
				   READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, GIB(1) + half, huge.va + half, half));
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, GIB(1)));
	leaves_free(&expected);
	memory_free(&huge);
	huge_pages_release();
}

TEST_PROGRAM("Maps memory of every kind under every policy and checks leaves and bytes.")
