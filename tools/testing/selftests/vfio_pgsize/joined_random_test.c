// SPDX-License-Identifier: GPL-2.0
/*
 * Random pieces of several kinds of memory, mapped and unmapped in a range that lies in
 * two gigabytes: each answer, and now and then all leaves, are compared with a model.
 *
 * JOINED_SEED gives other calls.
 */
#include <stdlib.h>

#include "harness.h"
#include "module.h"
#include "pieces.h"
#include "units.h"

#define SIZE	MIB(16)
#define AT	(GIB(5) - MIB(6))
#define CALLS	50000

FIXTURE(random) {
	struct vmm vmm;
	struct memory huge, small;
	struct pieces pieces;
};

FIXTURE_VARIANT(random) {
	unsigned long type;
};

FIXTURE_VARIANT_ADD(random, type1v2) { .type = VFIO_TYPE1v2_IOMMU };
FIXTURE_VARIANT_ADD(random, type1) { .type = VFIO_TYPE1_IOMMU };
FIXTURE_VARIANT_ADD(random, pgsize) { .type = VFIO_PGSIZE_IOMMU };

FIXTURE_SETUP(random)
{
	struct pieces *pieces = &self->pieces;
	const char *seed = getenv("JOINED_SEED");

	ASSERT_SOUND(module_require(JOIN_ON));
	ASSERT_SOUND(memory_alloc(&self->huge, HUGETLB_2M, SIZE + MIB(2)));
	ASSERT_SOUND(memory_alloc(&self->small, MEMFD, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
	ASSERT_SOUND(pieces_start(pieces, &self->vmm, variant->type, AT, SIZE / PAGE));
	pieces->random = seed ? strtoul(seed, NULL, 0) : 1;
	/* Of the first two, which are contiguous, all blocks can have leaves of 2M. */
	pieces_kind(pieces, self->huge.va, READ_WRITE);
	pieces_kind(pieces, self->huge.va + MIB(2), READ_WRITE);
	pieces_kind(pieces, self->huge.va, VFIO_DMA_MAP_FLAG_READ);
	pieces_kind(pieces, self->huge.va + PAGE, READ_WRITE);
	pieces_kind(pieces, self->small.va, READ_WRITE);
}

FIXTURE_TEARDOWN(random)
{
	pieces_free(&self->pieces);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->huge);
	memory_free(&self->small);
	huge_pages_release();
}

TEST_F_TIMEOUT(random, calls, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;

	for (uint32_t i = 0; i < CALLS; i++) {
		ASSERT_SOUND(pieces_random(pieces)) TH_LOG("call %u", i);
		if (i % 256 == 255)
			ASSERT_SOUND(pieces_agree_quickly(pieces)) TH_LOG("call %u", i);
		if (i % 4096 == 4095)
			ASSERT_SOUND(pieces_agree(pieces)) TH_LOG("call %u", i);
	}
	TH_LOG("map: %u done, %u in the way; unmap: %u done, %u refused", pieces->calls[0][0],
	       pieces->calls[0][1], pieces->calls[1][0], pieces->calls[1][1]);
	for (int i = 0; i < 4; i++)
		EXPECT_LT(variant->type != VFIO_TYPE1v2_IOMMU && i == 3 ? -1 : 100,
			  (int)pieces->calls[i / 2][i % 2]);
	/* The end of all, and nothing stays. */
	ASSERT_SOUND(pieces_agree(pieces));
	ASSERT_SOUND(pieces_unmap(pieces, 0, pieces->nr));
	EXPECT_SOUND(pieces_agree(pieces));
}

TEST_PROGRAM("Maps and unmaps random pieces that are joined.")
