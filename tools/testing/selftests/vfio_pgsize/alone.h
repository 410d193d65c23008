/* SPDX-License-Identifier: GPL-2.0 */
/* Devices that are software, in a container that has no IOMMU. */
#ifndef VFIO_PGSIZE_ALONE_H
#define VFIO_PGSIZE_ALONE_H

#include "backends.h"
#include "backing.h"
#include "container.h"
#include "edu.h"
#include "emulated.h"
#include "harness.h"
#include "module.h"
#include "units.h"

#define AT	GIB(1)
#define SIZE	MIB(1)
#define RW	(EMULATED_READ | EMULATED_WRITE)
#define READ	VFIO_DMA_MAP_FLAG_READ
#define WRITE	VFIO_DMA_MAP_FLAG_WRITE

/* Memory, mapped as two mappings that touch. */
FIXTURE(alone) {
	struct alone vmm;
	struct emulated *device;
	struct memory memory;
};

BACKENDS(alone);

FIXTURE_SETUP(alone)
{
	SKIP_TYPE1_UNDER_LOCKDEP();
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, SIZE));
	ASSERT_SOUND(alone_open(&self->vmm, variant->type, 2));
	self->device = &self->vmm.devices[0];
	ASSERT_EQ(0, dma_map(self->vmm.container, AT, self->memory.va, SIZE / 2, READ_WRITE));
	ASSERT_EQ(0, dma_map(self->vmm.container, AT + SIZE / 2, self->memory.va + SIZE / 2,
			     SIZE / 2, READ_WRITE));
}

FIXTURE_TEARDOWN(alone)
{
	EXPECT_SOUND(alone_close(&self->vmm));
	memory_free(&self->memory);
}

#define MAP(iova, va, size, flags)	dma_map(self->vmm.container, iova, va, size, flags)

#define UNMAP(iova, size, flags) ({						\
	uint64_t __bytes = size;						\
	int __ret = dma_unmap(self->vmm.container, iova, &__bytes, flags);	\
										\
	__ret ? __ret : (long)__bytes;						\
})

#define ROSE(locked, pinned)	EXPECT_SOUND(account_rose(&self->vmm.before, locked, pinned))

#endif
