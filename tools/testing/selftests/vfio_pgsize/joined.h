/* SPDX-License-Identifier: GPL-2.0 */
/* A container with joined mappings of two kinds, and the model of their pieces. */
#ifndef VFIO_PGSIZE_JOINED_H
#define VFIO_PGSIZE_JOINED_H

#include "backing.h"
#include "harness.h"
#include "module.h"
#include "pieces.h"
#include "units.h"
#include "vmm.h"

#define SIZE	MIB(8)
#define AT	(GIB(5) - MIB(4))

FIXTURE(joined) {
	struct vmm vmm;
	struct memory memory;
	struct pieces pieces;
};

FIXTURE_VARIANT(joined) {
	unsigned long type;
};

FIXTURE_VARIANT_ADD(joined, type1v2) { .type = VFIO_TYPE1v2_IOMMU };
FIXTURE_VARIANT_ADD(joined, pgsize) { .type = VFIO_PGSIZE_IOMMU };

FIXTURE_SETUP(joined)
{
	struct pieces *pieces = &self->pieces;

	ASSERT_SOUND(module_require(JOIN_ON));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
	ASSERT_SOUND(pieces_start(pieces, &self->vmm, variant->type, AT, SIZE / PAGE));
	pieces_kind(pieces, self->memory.va, READ_WRITE);
	pieces_kind(pieces, self->memory.va, VFIO_DMA_MAP_FLAG_READ);
	ASSERT_SOUND(pieces_map_some(pieces));
	ASSERT_SOUND(pieces_agree(pieces));
}

FIXTURE_TEARDOWN(joined)
{
	pieces_free(&self->pieces);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

#endif
