// SPDX-License-Identifier: GPL-2.0
/*
 * Dirty tracking by the IOMMU: what devices write is told, page by page, and nothing
 * else, whatever leaves there were before. The machine's IOMMU has dirty bits.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "dirty.h"
#include "harness.h"
#include "module.h"
#include "pages.h"
#include "units.h"
#include "vmm.h"

#define AT		GIB(4)
#define OTHER		GIB(8)
#define TRACKING	VFIO_PGSIZE_POLICY_TRACKING
#define APPLY		VFIO_PGSIZE_POLICY_APPLY

FIXTURE(dirty) {
	struct vmm vmm;
	struct memory memory;
	uint64_t last;	/* page */
};

FIXTURE_VARIANT(dirty) {
	enum backing backing;
	uint64_t size;
	uint64_t sizes;
	unsigned long type;
	bool joined;	/* all mappings are pieces of joined ones */
};

FIXTURE_VARIANT_ADD(dirty, leaf_4k) {
	.backing = ANON_4K, .size = MIB(4), .sizes = ANY_SIZE, .type = VFIO_TYPE1v2_IOMMU
};

FIXTURE_VARIANT_ADD(dirty, leaf_2m) {
	.backing = HUGETLB_2M, .size = MIB(8), .sizes = UPTO_2M, .type = VFIO_PGSIZE_IOMMU
};

FIXTURE_VARIANT_ADD(dirty, leaf_run) {
	.backing = HUGETLB_1G, .size = GIB(1), .sizes = KIB(4) | KIB(64) | MIB(16),
	.type = VFIO_PGSIZE_IOMMU
};

FIXTURE_VARIANT_ADD(dirty, leaf_1g) {
	.backing = HUGETLB_1G, .size = GIB(1), .sizes = ANY_SIZE, .type = VFIO_TYPE1v2_IOMMU
};

FIXTURE_VARIANT_ADD(dirty, joined) {
	.backing = HUGETLB_2M, .size = MIB(8), .sizes = ANY_SIZE, .type = VFIO_TYPE1v2_IOMMU,
	.joined = true
};

FIXTURE_VARIANT_ADD(dirty, mixed) {
	.backing = MIXED, .size = MIB(16), .sizes = UPTO_2M, .type = VFIO_PGSIZE_IOMMU
};

static bool is_ours(const FIXTURE_VARIANT(dirty) *variant)
{
	return variant->type == VFIO_PGSIZE_IOMMU;
}

FIXTURE_SETUP(dirty)
{
	ASSERT_SOUND(module_require(variant->joined ? "serve_type1v2=1 join_mappings=1" :
						      "serve_type1v2=1"));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, variant->size));
	self->last = variant->size / PAGE - 1;
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
	if (is_ours(variant))
		ASSERT_SOUND(vmm_policy(&self->vmm, 0, variant->sizes));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, variant->size, READ_WRITE));
}

FIXTURE_TEARDOWN(dirty)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(module_require(""));
	memory_free(&self->memory);
	huge_pages_release();
}

static problem has_tiles(FIXTURE_DATA(dirty) *self, uint64_t size, uint64_t sizes)
{
	return vmm_has_tiles(&self->vmm, AT, self->memory.va, size, sizes & self->vmm.sizes,
			     READ_WRITE);
}

/* Pages here and there, the ends among them. */
#define PAGES(self)	DIRTY({ 0, 2 }, { 63, 2 }, { 511, 2 }, { 700, 1 }, { (self)->last, 1 })

TEST_F_TIMEOUT(dirty, what_is_written_is_told_once, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;

	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 3, 1 })));
	ASSERT_EQ(0, dirty_start(container));
	EXPECT_SOUND(has_tiles(self, variant->size, ONLY_4K));
	/* Nothing has been written yet. */
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));

	ASSERT_SOUND(dirty_store(edu, AT, PAGES(self)));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, PAGES(self)));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));

	/* What is read is clean. */
	ASSERT_SOUND(edu_fetch(edu, AT + 5 * PAGE, PAGE));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));

	/* The IOTLB has the page as dirty: it is to be flushed. */
	for (int round = 0; round < 3; round++) {
		ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 64, 1 })));
		EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 64, 1 })));
	}

	/* A page that was read first is cached as clean. */
	ASSERT_SOUND(edu_fetch(edu, AT + 65 * PAGE, PAGE));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 65, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 65, 1 })));

	ASSERT_EQ(0, dirty_stop(container));
	EXPECT_SOUND(has_tiles(self, variant->size, variant->sizes));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, variant->size));
}

TEST_F_TIMEOUT(dirty, started_again_all_is_clean, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;

	ASSERT_EQ(0, dirty_start(container));
	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(dirty_store(edu, AT, PAGES(self)));
	ASSERT_EQ(0, dirty_stop(container));
	ASSERT_EQ(0, dirty_stop(container));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 3, 1 })));

	ASSERT_EQ(0, dirty_start(container));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 4, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 4, 1 })));
	ASSERT_EQ(0, dirty_stop(container));
}

/* What is unmapped tells what was written until then. */
TEST_F_TIMEOUT(dirty, unmap_tells, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;
	uint64_t *bitmap = calloc(1, DIRTY_BYTES(variant->size));
	uint64_t size = variant->size;

	ASSERT_NE(NULL, bitmap);
	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 9, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 9, 1 })));
	ASSERT_SOUND(dirty_store(edu, AT, PAGES(self)));
	ASSERT_EQ(0, dirty_unmap(container, AT, &size, bitmap));
	EXPECT_EQ(variant->size, size);
	EXPECT_SOUND(dirty_bits_are(bitmap, variant->size, PAGES(self)));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	free(bitmap);
}

/* The bitmap's memory cannot be written: nothing is unmapped, and no note is lost. */
TEST_F_TIMEOUT(dirty, unmap_without_a_bitmap_fails, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;
	uint64_t bytes = DIRTY_BYTES(variant->size), size = variant->size;
	uint64_t *nothing = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, nothing);
	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(dirty_store(edu, AT, PAGES(self)));
	EXPECT_EQ(-EFAULT, dirty_get(container, AT, variant->size, nothing));
	EXPECT_EQ(-EFAULT, dirty_unmap(container, AT, &size, nothing));
	EXPECT_SOUND(has_tiles(self, variant->size, ONLY_4K));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, PAGES(self)));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 9, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 9, 1 })));
	munmap(nothing, bytes);
}

/*
 * A bitmap of more than 1 MiB is made in pieces. A later one cannot be written: what those
 * before it told is told again, and more than that.
 */
TEST_F_TIMEOUT(dirty, pieces, TIMEOUT)
{
	const uint64_t far = GIB(32), piece = far / PAGE / 8;
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;
	uint64_t *bitmap = mmap(NULL, piece + PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *last = bitmap + piece / 8;

	ASSERT_NE(MAP_FAILED, bitmap);
	ASSERT_SOUND(vmm_map(&self->vmm, AT + far, self->memory.va, 64 * PAGE, READ_WRITE));
	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(dirty_store(edu, AT, PAGES(self)));
	ASSERT_SOUND(dirty_store(edu, AT + far, DIRTY({ 7, 1 })));
	ASSERT_EQ(0, mprotect(last, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, dirty_get(container, AT, far + 64 * PAGE, bitmap));
	ASSERT_EQ(0, mprotect(last, PAGE, PROT_READ | PROT_WRITE));
	memset(bitmap, 0, piece);
	EXPECT_EQ(0, dirty_get(container, AT, far + 64 * PAGE, bitmap));
	EXPECT_SOUND(dirty_bits_are(bitmap, variant->size, DIRTY({ 0, self->last + 1 })));
	EXPECT_SOUND(dirty_bits_are(last, 64 * PAGE, DIRTY({ 7, 1 })));
	/* It has all been told. */
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));
	EXPECT_SOUND(dirty_is(container, AT + far, 64 * PAGE, CLEAN));
	munmap(bitmap, piece + PAGE);
}

/* What is mapped while tracking is on is clean, and has small leaves. */
TEST_F_TIMEOUT(dirty, mapped_meanwhile, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;

	ASSERT_SOUND(dma_unmap_exactly(container, AT, variant->size));
	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, variant->size, READ_WRITE));
	EXPECT_SOUND(has_tiles(self, variant->size, ONLY_4K));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));
	ASSERT_SOUND(dirty_store(edu, AT, PAGES(self)));
	/* And what was there before is forgotten with it. */
	ASSERT_SOUND(dma_unmap_exactly(container, AT, variant->size));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, variant->size, READ_WRITE));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));
	ASSERT_SOUND(dirty_store(edu, AT, PAGES(self)));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, PAGES(self)));
	ASSERT_EQ(0, dirty_stop(container));
	EXPECT_SOUND(has_tiles(self, variant->size, variant->sizes));
}

/* Several mappings, with holes, in one bitmap: their bits share words. */
TEST_F_TIMEOUT(dirty, several_mappings, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;

	for (int i = 0; i < 4; i++)
		ASSERT_SOUND(vmm_map(&self->vmm, OTHER + i * 5 * PAGE, self->memory.va + i * PAGE,
				     4 * PAGE, READ_WRITE));
	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(dirty_store(edu, OTHER, DIRTY({ 0, 1 }, { 3, 1 }, { 6, 2 }, { 18, 1 })));
	/* Asked in two parts, one of which begins and ends with a hole. */
	EXPECT_SOUND(dirty_is(container, OTHER, 5 * PAGE, DIRTY({ 0, 1 }, { 3, 1 })));
	EXPECT_SOUND(dirty_is(container, OTHER + 4 * PAGE, 100 * PAGE,
			      DIRTY({ 2, 2 }, { 14, 1 })));
	EXPECT_SOUND(dirty_is(container, OTHER, 100 * PAGE, CLEAN));
	/* What cuts a mapping is refused where unmapping would be, too. */
	ASSERT_SOUND(dirty_store(edu, OTHER, DIRTY({ 6, 2 })));
	if (is_ours(variant)) {
		EXPECT_SOUND(dirty_is(container, OTHER + 7 * PAGE, PAGE, DIRTY({ 0, 1 })));
		EXPECT_SOUND(dirty_is(container, OTHER, 20 * PAGE, DIRTY({ 6, 1 })));
	} else {
		uint64_t word;

		EXPECT_EQ(-EINVAL, dirty_get(container, OTHER + 7 * PAGE, PAGE, &word));
		EXPECT_EQ(-EINVAL, dirty_get(container, OTHER, 7 * PAGE, &word));
		EXPECT_SOUND(dirty_is(container, OTHER, 20 * PAGE, DIRTY({ 6, 2 })));
	}
}

TEST_F_TIMEOUT(dirty, granules_of_2m, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;
	struct vfio_pgsize_policy policy;

	if (variant->backing != HUGETLB_2M)
		SKIP(return, "no leaves of 2M");
	ASSERT_EQ(0, policy_get(container, &policy, TRACKING, 0));
	EXPECT_EQ(ONLY_4K, policy.pgsizes);
	ASSERT_EQ(0, policy_of_all(container, TRACKING, UPTO_2M));
	ASSERT_EQ(0, policy_get(container, &policy, TRACKING, 0));
	EXPECT_EQ(UPTO_2M, policy.pgsizes);
	ASSERT_EQ(0, policy_get(container, &policy, 0, 0));
	EXPECT_EQ(variant->sizes, policy.pgsizes);

	ASSERT_EQ(0, dirty_start(container));
	EXPECT_SOUND(has_tiles(self, variant->size, UPTO_2M));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 513, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 512, 512 })));
	/* The IOTLB has the leaf, by another page of it. */
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 600, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 512, 512 })));

	/* Split meanwhile: what was written of the leaf was so, perhaps, of each part. */
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 0, 1 })));
	ASSERT_EQ(0, policy_of_all(container, TRACKING | APPLY, ONLY_4K));
	EXPECT_SOUND(has_tiles(self, variant->size, ONLY_4K));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 0, self->last + 1 })));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 600, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 600, 1 })));

	/* Merged meanwhile: as well. */
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 600, 1 })));
	ASSERT_EQ(0, policy_of_all(container, TRACKING | APPLY, UPTO_2M));
	EXPECT_SOUND(has_tiles(self, variant->size, UPTO_2M));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 0, self->last + 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));
	ASSERT_EQ(0, dirty_stop(container));
	EXPECT_SOUND(has_tiles(self, variant->size, variant->sizes));
}

/* The VMM's policy is kept, and may change meanwhile. */
TEST_F_TIMEOUT(dirty, policy_meanwhile, TIMEOUT)
{
	int container = self->vmm.container;
	struct vfio_pgsize_policy policy;

	if (!is_ours(variant))
		SKIP(return, "no policy");
	ASSERT_EQ(0, dirty_start(container));
	ASSERT_EQ(0, policy_of_all(container, APPLY, KIB(4) | KIB(64)));
	ASSERT_EQ(0, policy_get(container, &policy, 0, 0));
	EXPECT_EQ(KIB(4) | KIB(64), policy.pgsizes);
	EXPECT_SOUND(has_tiles(self, variant->size, ONLY_4K));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, CLEAN));
	ASSERT_EQ(0, dirty_stop(container));
	EXPECT_SOUND(has_tiles(self, variant->size, KIB(4) | KIB(64)));
}

/* Another group comes, and goes. */
TEST_F_TIMEOUT(dirty, attached_meanwhile, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(dirty_store(&self->vmm.devices[0].edu, AT, DIRTY({ 1, 1 })));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	ASSERT_SOUND(dirty_store(&self->vmm.devices[1].edu, AT, DIRTY({ 2, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 1, 2 })));
	ASSERT_SOUND(dirty_store(&self->vmm.devices[0].edu, AT, DIRTY({ 1, 1 })));
	ASSERT_SOUND(dirty_store(&self->vmm.devices[1].edu, AT, DIRTY({ 2, 1 })));
	vmm_detach(&self->vmm, 1);
	EXPECT_SOUND(dirty_is(container, AT, variant->size, DIRTY({ 1, 2 })));
	ASSERT_EQ(0, dirty_stop(container));
	EXPECT_SOUND(has_tiles(self, variant->size, variant->sizes));
}

/* A mapping of more pages than a bitmap has bits, as in type1. It maps nothing yet. */
TEST_F_TIMEOUT(dirty, mapping_too_large, TIMEOUT)
{
	const uint32_t flags = READ_WRITE | VFIO_PGSIZE_MAP_STATEFUL;
	int container = self->vmm.container;
	uint64_t size = PAGE << 31;

	if (!is_ours(variant))
		SKIP(return, "type1 maps only what is there");
	ASSERT_EQ(0, dma_map(container, GIB(1024), (void *)GIB(1), size, flags));
	EXPECT_EQ(-EINVAL, dirty_start(container));
	EXPECT_SOUND(has_tiles(self, variant->size, variant->sizes));
	ASSERT_EQ(0, dma_unmap(container, GIB(1024), &size, 0));
	ASSERT_EQ(0, dirty_start(container));
	EXPECT_EQ(-EINVAL, dma_map(container, GIB(1024), (void *)GIB(1), size, flags));
	EXPECT_EQ(0, dma_map(container, GIB(1024), (void *)GIB(1), size - PAGE, flags));
	ASSERT_EQ(0, dirty_stop(container));
	size -= PAGE;
	EXPECT_EQ(0, dma_unmap(container, GIB(1024), &size, 0));
}

/* Closed while tracking is on: the fixture looks whether anything is left. */
TEST_F_TIMEOUT(dirty, closed_meanwhile, TIMEOUT)
{
	ASSERT_EQ(0, dirty_start(self->vmm.container));
	ASSERT_SOUND(dirty_store(&self->vmm.devices[0].edu, AT, PAGES(self)));
}

TEST_PROGRAM("Dirty tracking by an IOMMU that has dirty bits.")
