/* SPDX-License-Identifier: GPL-2.0 */
/* Devices that are software in one container with devices that have an IOMMU. */
#ifndef VFIO_PGSIZE_MIXED_H
#define VFIO_PGSIZE_MIXED_H

#include "backends.h"
#include "backing.h"
#include "emulated.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(4)
#define PAGES	((long)(SIZE / PAGE))
#define RW	(EMULATED_READ | EMULATED_WRITE)

/* A container with such a device; the memory is mapped as two mappings. */
FIXTURE(mixed) {
	struct alone alone;
	struct emulated *device;
	struct vmm vmm;		/* the same container, with devices that come later */
	struct memory memory;
};

BACKENDS(mixed);

FIXTURE_SETUP(mixed)
{
	SKIP_TYPE1_UNDER_LOCKDEP();
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(alone_open(&self->alone, variant->type, 1));
	self->device = &self->alone.devices[0];
	self->vmm.container = self->alone.container;
	for (int i = 0; i < MAX_DEVICES; i++)
		self->vmm.devices[i].group = -1;
	ASSERT_EQ(0, dma_map(self->vmm.container, AT, self->memory.va, SIZE / 2, READ_WRITE));
	ASSERT_EQ(0, dma_map(self->vmm.container, AT + SIZE / 2, self->memory.va + SIZE / 2,
			     SIZE / 2, READ_WRITE));
}

FIXTURE_TEARDOWN(mixed)
{
	for (int i = 0; i < MAX_DEVICES; i++)
		vmm_detach(&self->vmm, i);
	EXPECT_SOUND(alone_close(&self->alone));
	memory_free(&self->memory);
	huge_pages_release();
}

#endif
