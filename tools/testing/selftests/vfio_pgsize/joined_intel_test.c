// SPDX-License-Identifier: GPL-2.0
/*
 * Joined mappings on an IOMMU whose page tables vfio_pgsize can neither read nor edit: entries,
 * bounds and pinned memory are as on any other, and leaves stay as they were mapped. The
 * test build has a domain for each group.
 */
#include <errno.h>

#include "harness.h"
#include "module.h"
#include "pieces.h"
#include "units.h"

#define SIZE	MIB(8)
#define AT	(GIB(5) - MIB(4))

FIXTURE(joined_intel) {
	struct vmm vmm;
	struct memory memory;
	struct pieces pieces;
};

FIXTURE_VARIANT(joined_intel) {
	unsigned long type;
};

FIXTURE_VARIANT_ADD(joined_intel, type1v2) { .type = VFIO_TYPE1v2_IOMMU };
FIXTURE_VARIANT_ADD(joined_intel, type1) { .type = VFIO_TYPE1_IOMMU };
FIXTURE_VARIANT_ADD(joined_intel, pgsize) { .type = VFIO_PGSIZE_IOMMU };

FIXTURE_SETUP(joined_intel)
{
	struct pieces *pieces = &self->pieces;

	ASSERT_SOUND(module_require(JOIN_ON " own_domains=1"));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
	/* It cannot be read. */
	ASSERT_EQ(0, vmm_domains(&self->vmm));
	ASSERT_SOUND(pieces_start(pieces, &self->vmm, variant->type, AT, SIZE / PAGE));
	/* Nor does it have leaves that can be cut. */
	pieces->parts = false;
	pieces_kind(pieces, self->memory.va, READ_WRITE);
	pieces_kind(pieces, self->memory.va, VFIO_DMA_MAP_FLAG_READ);
}

FIXTURE_TEARDOWN(joined_intel)
{
	pieces_free(&self->pieces);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* The device moves a page from and to some pieces that it may write: a transfer takes 0.1 seconds. */
static problem reaches_some(FIXTURE_DATA(joined_intel) *self, int device)
{
	const struct page *pages = self->pieces.pages;
	problem wrong = NULL;
	int count = 0;

	for (uint32_t page = 0, nr; !wrong && page < self->pieces.nr; page += nr) {
		for (nr = 1; page + nr < self->pieces.nr && pages[page].kind &&
		     pages[page + nr].kind && !pages[page + nr].start; nr++)
			;
		if (pages[page].kind == 1 && (nr == 512 || count++ % 48 == 0))
			wrong = vmm_moves_bytes(&self->vmm, device, AT + page * PAGE,
						self->memory.va + page * PAGE, nr * PAGE);
	}
	return wrong;
}

/* A 2M of 32 pieces, another that is one, every third page, and a piece with another access. */
static problem map_some(struct pieces *pieces)
{
	problem wrong = pieces_map(pieces, 0, 512, 512);

	for (uint32_t page = 1024; !wrong && page < 1536; page += 16)
		wrong = pieces_map(pieces, 0, page, 16);
	for (uint32_t page = 0; !wrong && page < 512; page += 3)
		wrong = pieces_map(pieces, 0, page, 1);
	return wrong ? wrong : pieces_map(pieces, 1, 1600, 5);
}

TEST_F_TIMEOUT(joined_intel, bounds, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;
	uint64_t size = PAGE;

	ASSERT_SOUND(map_some(pieces));
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(reaches_some(self, 0));
	/* A part of the leaf of 2M: refused, or nothing is taken. */
	EXPECT_EQ(pieces->whole ? 0 : -EINVAL,
		  dma_unmap(self->vmm.container, AT + 513 * PAGE, &size, 0));
	/* Pieces next to others, and across holes. */
	ASSERT_SOUND(pieces_unmap(pieces, 1024 + 16, 16));
	ASSERT_SOUND(pieces_unmap(pieces, 1024 + 160, 64));
	ASSERT_SOUND(pieces_unmap(pieces, 300, 212));
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(reaches_some(self, 0));
	ASSERT_SOUND(pieces_map(pieces, 0, 1024 + 16, 16));
	ASSERT_SOUND(pieces_unmap(pieces, 512, 512));
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(reaches_some(self, 0));
}

/* Another domain gets the same, and pieces can be unmapped from both. */
TEST_F_TIMEOUT(joined_intel, another_domain, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;

	ASSERT_SOUND(map_some(pieces));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(reaches_some(self, 1));
	ASSERT_SOUND(pieces_unmap(pieces, 1024 + 16, 16));
	ASSERT_SOUND(pieces_unmap(pieces, 3, 1));
	ASSERT_SOUND(pieces_map(pieces, 0, 1700, 40));
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(reaches_some(self, 0));
	EXPECT_SOUND(reaches_some(self, 1));
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(reaches_some(self, 1));
}

TEST_F_TIMEOUT(joined_intel, random_calls, 2 * TIMEOUT)
{
	struct pieces *pieces = &self->pieces;

	for (int i = 0; i < 3000; i++) {
		ASSERT_SOUND(pieces_random(pieces)) TH_LOG("call %d", i);
		if (i % 64 == 63)
			ASSERT_SOUND(pieces_agree(pieces)) TH_LOG("call %d", i);
	}
	EXPECT_SOUND(reaches_some(self, 0));
}

TEST_PROGRAM("Joined mappings on an IOMMU whose page tables cannot be edited.")
