// SPDX-License-Identifier: GPL-2.0
/*
 * Page states on an SNP host: only shared memory is in the IOMMU, while private memory has 2M RMP
 * entries. A device uses pages that are always shared; after each step the leaves equal the model,
 * and none disagrees with the RMP.
 */
#include <sys/ioctl.h>

#include "follow.h"
#include "guest.h"
#include "harness.h"
#include "life.h"
#include "module.h"
#include "rmp.h"
#include "units.h"

#define AT	LIFE_IOVA
#define PIECE(i) ((i) * MIB(2))
#define PAGE_OF(i, page) (PIECE(i) + (page) * PAGE)

FIXTURE(snp_state) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
	struct rmp_counts counts;
};

FIXTURE_VARIANT(snp_state) {
	uint32_t follow;
};

FIXTURE_VARIANT_ADD(snp_state, follows) { .follow = FOLLOW };
/* Page states alone keep leaves and RMP in agreement. */
FIXTURE_VARIANT_ADD(snp_state, follows_not) { .follow = 0 };

/* Too large for the stack of a test; there is one at a time. */
static struct life life;

FIXTURE_SETUP(snp_state)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, LIFE_SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(rmp_counts(&self->counts));
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, PRIVATE));
	ASSERT_SOUND(vmm_policy(&self->vmm, variant->follow, UPTO_2M));
	self->pages.others = 1;		/* the device's scratch page */
	self->pages.pinned = LIFE_PAGES;	/* by the guest */
	ASSERT_SOUND(pages_set(&self->pages, 0, LIFE_SIZE, SHARED));
	ASSERT_SOUND(life_start(&life, &self->vmm, self->memory.va, &self->pages));
	ASSERT_SOUND(pages_agree(&self->pages));
}

FIXTURE_TEARDOWN(snp_state)
{
	struct rmp_counts now = {};

	EXPECT_SOUND(life_stop(&life));
	EXPECT_EQ(0, life.failed);
	EXPECT_LT(0, life.done);
	EXPECT_SOUND(rmp_counts(&now));
	if (!self->vmm.faults_expected)
		EXPECT_EQ(self->counts.dma_faults, now.dma_faults);
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_EQ(0, follow_followers());
	memory_free(&self->memory);
	huge_pages_release();
}

#define SHARE(at, huge)		ASSERT_SOUND(life_make_shared(&life, at, huge))
#define UNSHARE(at, huge)	ASSERT_SOUND(life_make_private(&life, at, huge))
#define SMASH(i)		ASSERT_SOUND(guest_smash(&life.guest, PIECE(i)))
/* The model, and that the device made progress. */
#define AGREE() do {							\
	EXPECT_SOUND(pages_agree(&self->pages));			\
	EXPECT_SOUND(no_mismatch(self, variant->follow));				\
	ASSERT_SOUND(life_goes_on(&life, 4));				\
	EXPECT_EQ(0, life.failed);					\
} while (0)

/* An audit, where there is one. */
static problem no_mismatch(FIXTURE_DATA(snp_state) *self, uint32_t follow)
{
	struct vfio_pgsize_run runs[4];
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.flags = VFIO_PGSIZE_QUERY_MISMATCH,
		.size = EVERYWHERE,
		.nr = ARRAY_SIZE(runs),
		.runs = (uintptr_t)runs,
	};

	if (!follow)
		return NULL;
	if (ioctl(self->vmm.container, VFIO_PGSIZE_QUERY, &query))
		return problem_is("QUERY_MISMATCH: %m");
	return query.nr ? problem_is("a leaf at %#llx disagrees with the RMP", runs[0].iova) : NULL;
}

/* A guest boots: all but its first 2M is private, and pages of it become shared over time. */
TEST_F_TIMEOUT(snp_state, pages_of_a_private_block, 2 * TIMEOUT)
{
	for (int i = 1; i < LIFE_HUGE; i++)
		UNSHARE(PIECE(i), true);
	AGREE();
	/* Smashed, then a page is shared, then SET_STATE. */
	SMASH(3);
	AGREE();
	for (int page = 5; page < 13; page++) {
		SHARE(PAGE_OF(3, page), false);
		life_want(&life, PAGE_OF(3, page), true);
	}
	AGREE();
	for (int page = 6; page < 13; page += 2) {
		life_want(&life, PAGE_OF(3, page), false);
		UNSHARE(PAGE_OF(3, page), false);
	}
	AGREE();
	/* All of it, page by page: a leaf of 2M again. */
	for (int page = 0; page < 512; page++)
		if (page < 5 || page >= 13 || page % 2 == 0)
			SHARE(PAGE_OF(3, page), false);
	AGREE();
	EXPECT_EQ(1024, self->pages.nr_shared);
	/* And private, with an entry of 2M. */
	for (int page = 5; page < 13; page++)
		life_want(&life, PAGE_OF(3, page), false);
	UNSHARE(PIECE(3), true);
	AGREE();
	SHARE(PIECE(3), true);
	AGREE();
}

/* Pages of a 2M that is shared, and in use, become private one by one, and shared again. */
TEST_F_TIMEOUT(snp_state, pages_of_a_shared_block, 2 * TIMEOUT)
{
	for (int i = 2; i < LIFE_HUGE; i++)
		UNSHARE(PIECE(i), true);
	for (int page = 1; page < 512; page += 100) {
		life_want(&life, PAGE_OF(0, page - 1), true);
		life_want(&life, PAGE_OF(0, page + 1), true);
		UNSHARE(PAGE_OF(0, page), false);
		AGREE();
	}
	for (int page = 1; page < 512; page += 100) {
		SHARE(PAGE_OF(0, page), false);
		AGREE();
	}
	SHARE(PIECE(5), true);
	SHARE(PIECE(6), true);
	AGREE();
	UNSHARE(PAGE_OF(5, 511), false);
	UNSHARE(PAGE_OF(6, 0), false);
	AGREE();
}

/*
 * The RMP entry changes before the state, so that the block follows the RMP with small leaves when
 * the page is unmapped. Then it must not follow any more: the test build warns if the quick path
 * shares a page of a block that does.
 */
TEST_F_TIMEOUT(snp_state, state_changes_later, TIMEOUT)
{
	uint64_t at = PAGE_OF(5, 7);

	life_rest(&life, true);
	ASSERT_SOUND(guest_assign(&life.guest, at, false));
	ASSERT_SOUND(pages_set(&self->pages, at, PAGE, PRIVATE));
	ASSERT_SOUND(guest_share(&life.guest, at, false));
	ASSERT_SOUND(pages_set(&self->pages, at, PAGE, SHARED));
	life_rest(&life, false);
	AGREE();
}

/* A private page is neither mapped nor allowed by the RMP: DMA faults as unmapped. */
TEST_F_TIMEOUT(snp_state, private_page_faults, TIMEOUT)
{
	UNSHARE(PAGE_OF(1, 7), false);
	AGREE();
	life_rest(&life, true);
	EXPECT_SOUND(vmm_store_faults(&self->vmm, 0, AT + PAGE_OF(1, 7)));
	EXPECT_EQ(0, self->vmm.log.rmp_faults);
	life_rest(&life, false);
	AGREE();
	SHARE(PAGE_OF(1, 7), false);
	AGREE();
}

TEST_PROGRAM("Page states on an SNP host, while a device is at work in what is shared.")
