// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of one mapping that become shared and private again, in memory of every kind and in every
 * order: the leaves are those of the shared pages, and only these are pinned and locked. It always
 * counts as one mapping.
 */
#include "harness.h"
#include "module.h"
#include "pages.h"
#include "units.h"

#define AT	GIB(4)

FIXTURE(page_state) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
};

FIXTURE_VARIANT(page_state) {
	enum backing backing;
	uint64_t size;
	uint64_t off;		/* offset of the IOVA from a multiple of 2M */
};

FIXTURE_VARIANT_ADD(page_state, anon_4k) { .backing = ANON_4K, .size = MIB(4) };
FIXTURE_VARIANT_ADD(page_state, thp) { .backing = THP, .size = MIB(8) };
FIXTURE_VARIANT_ADD(page_state, hugetlb_2m) { .backing = HUGETLB_2M, .size = MIB(8) };
FIXTURE_VARIANT_ADD(page_state, hugetlb_1g) { .backing = HUGETLB_1G, .size = GIB(1) };
FIXTURE_VARIANT_ADD(page_state, memfd) { .backing = MEMFD, .size = MIB(4) };
FIXTURE_VARIANT_ADD(page_state, memfd_2m) { .backing = MEMFD_2M, .size = MIB(8) };
FIXTURE_VARIANT_ADD(page_state, mixed) { .backing = MIXED, .size = MIB(16) };
/* No 2M leaf ever fits. */
FIXTURE_VARIANT_ADD(page_state, off_by_4k) {
	.backing = HUGETLB_2M, .size = MIB(8), .off = PAGE,
};

FIXTURE_SETUP(page_state)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, variant->size));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(page_state)
{
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

#define MAP(sizes, state)						\
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT + variant->off, &self->memory, \
			       sizes, state))
#define SET(at, size, state) do {					\
	ASSERT_SOUND(pages_set(&self->pages, at, size, state));		\
	EXPECT_SOUND(pages_agree(&self->pages));			\
} while (0)
#define BATCH(...) do {							\
	ASSERT_SOUND(pages_batch(&self->pages, CHANGES(__VA_ARGS__)));	\
	EXPECT_SOUND(pages_agree(&self->pages));			\
} while (0)

static void convert(struct __test_metadata *_metadata, FIXTURE_DATA(page_state) *self,
		    const FIXTURE_VARIANT(page_state) *variant, uint64_t sizes)
{
	uint64_t size = self->memory.size;
	struct change scattered[40];

	MAP(sizes, PRIVATE);
	EXPECT_SOUND(pages_agree(&self->pages));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	/* A page, twice each way. */
	SET(MIB(1), PAGE, SHARED);
	SET(MIB(1), PAGE, SHARED);
	SET(MIB(1), PAGE, PRIVATE);
	SET(MIB(1), PAGE, PRIVATE);
	/* A 2M, and pages of it: its first, one in the middle, its last. */
	SET(MIB(2), MIB(2), SHARED);
	for (int i = 0; i < 3; i++) {
		uint64_t page = MIB(2) + (i == 0 ? 0 : i == 1 ? MIB(1) : MIB(2) - PAGE);

		SET(page, PAGE, PRIVATE);
		SET(MIB(2), MIB(2), SHARED);
	}
	/* Across the boundary between two 2M, of which one is shared. */
	SET(MIB(2) - 4 * PAGE, 12 * PAGE, PRIVATE);
	SET(MIB(2) - 2 * PAGE, 3 * PAGE, SHARED);
	SET(0, MIB(4), SHARED);
	SET(MIB(2) - PAGE, 2 * PAGE, PRIVATE);
	/* From the first page to the last. */
	SET(0, size, SHARED);
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + variant->off, self->memory.va, size));
	SET(0, size, SHARED);
	SET(PAGE, size - 2 * PAGE, PRIVATE);
	SET(0, size, PRIVATE);
	SET(0, size, PRIVATE);
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	/* Many pages in one call, of both kinds, in random order. */
	for (size_t i = 0; i < ARRAY_SIZE(scattered); i++) {
		uint64_t page = i * 37 % ARRAY_SIZE(scattered) * 11;

		scattered[i] = (struct change){ page * PAGE, 3 * PAGE, i % 4 ? SHARED : PRIVATE };
	}
	ASSERT_SOUND(pages_batch(&self->pages, scattered, ARRAY_SIZE(scattered)));
	EXPECT_SOUND(pages_agree(&self->pages));
	/* Changes of the same pages: the later one wins. */
	BATCH({ 0, MIB(2), SHARED }, { KIB(512), MIB(1), PRIVATE }, { KIB(768), PAGE, SHARED },
	      { 0, PAGE, PRIVATE }, { MIB(2), MIB(2), SHARED }, { MIB(1), MIB(2), PRIVATE },
	      { MIB(3), PAGE, SHARED });
	BATCH({ 0, MIB(4), SHARED }, { 0, MIB(4), PRIVATE }, { 0, MIB(4), SHARED });
	BATCH({ 0, size, SHARED }, { PAGE, PAGE, PRIVATE }, { PAGE, PAGE, SHARED });
	EXPECT_SOUND(pages_unmap(&self->pages));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

TEST_F_TIMEOUT(page_state, upto_2m, 2 * TIMEOUT)
{
	convert(_metadata, self, variant, UPTO_2M);
}

TEST_F_TIMEOUT(page_state, only_4k, 2 * TIMEOUT)
{
	if (variant->size > MIB(16))
		return;		/* a quarter of a million leaves, again and again, add nothing */
	convert(_metadata, self, variant, ONLY_4K);
}

TEST_F_TIMEOUT(page_state, any_size, 2 * TIMEOUT)
{
	convert(_metadata, self, variant, ANY_SIZE);
}

/* All shared from the start: the leaves of any mapping; then parts become private. */
TEST_F_TIMEOUT(page_state, starts_shared, TIMEOUT)
{
	uint64_t size = self->memory.size;

	MAP(UPTO_2M, SHARED);
	EXPECT_SOUND(pages_agree(&self->pages));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT + variant->off, self->memory.va, size, UPTO_2M,
				   READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + variant->off, self->memory.va, size));
	SET(MIB(2) + PAGE, PAGE, PRIVATE);
	SET(0, size, SHARED);
	SET(MIB(1), MIB(2), PRIVATE);
	/* The rest is left to close: vmm_close() checks. */
}

/* A new policy affects the shared pages only. */
TEST_F_TIMEOUT(page_state, policy_applied, TIMEOUT)
{
	static const uint64_t sizes[] = { ONLY_4K, UPTO_2M, KIB(4) | KIB(16), UPTO_2M };

	MAP(UPTO_2M, SHARED);
	BATCH({ PAGE, PAGE, PRIVATE }, { MIB(3), KIB(64), PRIVATE });
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		self->pages.sizes = sizes[i];
		ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, sizes[i]));
		EXPECT_SOUND(pages_agree(&self->pages));
	}
}

/* --- how much it takes ---------------------------------------------------- */

FIXTURE(one_mapping) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
};

FIXTURE_SETUP(one_mapping)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, MIB(8)));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(one_mapping)
{
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

static int mappings_left(struct vmm *vmm)
{
	struct info info;

	return container_info(vmm->container, &info) ? -1 : info.dma_avail;
}

TEST_F_TIMEOUT(one_mapping, of_the_limit, TIMEOUT)
{
	int left = mappings_left(&self->vmm);

	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, PRIVATE));
	EXPECT_EQ(left - 1, mappings_left(&self->vmm));
	for (uint64_t page = 0; page < self->pages.nr; page += 2)
		ASSERT_SOUND(pages_set(&self->pages, page * PAGE, PAGE, SHARED));
	EXPECT_SOUND(pages_agree(&self->pages));
	EXPECT_EQ(left - 1, mappings_left(&self->vmm));
	ASSERT_SOUND(pages_unmap(&self->pages));
	EXPECT_EQ(left, mappings_left(&self->vmm));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

/* Private memory need not be present, and is not faulted in. */
TEST_F_TIMEOUT(one_mapping, untouched, TIMEOUT)
{
	struct memory untouched = { .size = MIB(4) };
	uint64_t phys;

	untouched.va = mmap(NULL, untouched.size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, untouched.va);
	madvise(untouched.va, untouched.size, MADV_NOHUGEPAGE);
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &untouched, UPTO_2M, PRIVATE));
	EXPECT_SOUND(pages_agree(&self->pages));
	ASSERT_SOUND(pages_set(&self->pages, MIB(1), 2 * PAGE, SHARED));
	EXPECT_SOUND(pages_agree(&self->pages));
	EXPECT_NE(NULL, memory_phys(untouched.va + MIB(1) - PAGE, 1, &phys));
	EXPECT_NE(NULL, memory_phys(untouched.va + MIB(1) + 2 * PAGE, 1, &phys));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + MIB(1), untouched.va + MIB(1), 2 * PAGE));
	ASSERT_SOUND(pages_unmap(&self->pages));
	memory_free(&untouched);
}

/* Beside plain mappings, which are unchanged. */
TEST_F_TIMEOUT(one_mapping, among_others, TIMEOUT)
{
	struct leaves expected = {};
	struct memory other = {};

	ASSERT_SOUND(memory_alloc(&other, HUGETLB_2M, MIB(4)));
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, PRIVATE));
	ASSERT_SOUND(vmm_map(&self->vmm, AT - MIB(2), other.va, MIB(2), READ_WRITE));
	ASSERT_SOUND(vmm_map(&self->vmm, AT + self->memory.size, other.va + MIB(2), MIB(2),
			     READ_WRITE));
	self->pages.others = MIB(4) / PAGE;
	EXPECT_SOUND(pages_agree(&self->pages));
	ASSERT_SOUND(pages_set(&self->pages, 0, self->memory.size, SHARED));
	ASSERT_SOUND(pages_set(&self->pages, MIB(2), PAGE, PRIVATE));
	EXPECT_SOUND(pages_agree(&self->pages));
	ASSERT_SOUND(leaves_tile(&expected, AT - MIB(2), other.va, MIB(2), UPTO_2M, READ_WRITE));
	pages_leaves(&self->pages, &expected);
	ASSERT_SOUND(leaves_tile(&expected, AT + self->memory.size, other.va + MIB(2), MIB(2),
				 UPTO_2M, READ_WRITE));
	EXPECT_SOUND(vmm_has_leaves(&self->vmm, &expected));
	leaves_free(&expected);
	ASSERT_SOUND(pages_unmap(&self->pages));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT - MIB(2), MIB(2)));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + self->memory.size, MIB(2)));
	memory_free(&other);
}

TEST_PROGRAM("Makes pages of a mapping shared and private in every order and checks leaves and pins.")
