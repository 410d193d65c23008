// SPDX-License-Identifier: GPL-2.0
/*
 * UNMAP_DMA with GET_DIRTY_BITMAP tells what was written until nothing can be written any
 * more: a device that writes between the bitmap and the unmap faults.
 * The test build's gates hold the call (rust/sys/testing.h).
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "dirty.h"
#include "gates.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(4)
#define SIZE	MIB(4)

FIXTURE(dirty_unmap) {
	struct vmm vmm;
	struct memory memory;
	uint64_t bitmap[DIRTY_BYTES(SIZE) / 8];
	uint64_t bytes;
	int ret;
	pthread_t thread;
};

FIXTURE_SETUP(dirty_unmap)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_EQ(0, dirty_start(self->vmm.container));
}

FIXTURE_TEARDOWN(dirty_unmap)
{
	EXPECT_SOUND(gates_set(&(struct gates){}));
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(module_require(""));
	memory_free(&self->memory);
	huge_pages_release();
}

static void *unmap(void *arg)
{
	FIXTURE_DATA(dirty_unmap) *self = arg;

	self->bytes = SIZE;
	self->ret = dirty_unmap(self->vmm.container, AT, &self->bytes, self->bitmap);
	return NULL;
}

TEST_F_TIMEOUT(dirty_unmap, no_write_after_the_bitmap, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	struct gates gates = {};
	uint8_t before[PAGE];

	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 3, 1 }, { 600, 2 })));
	fill_with_pattern(before, PAGE);
	memcpy(self->memory.va + 9 * PAGE, before, PAGE);
	/* Nothing is mapped meanwhile: it waits until the gate goes. */
	gates_add(&gates, PGSIZE_STEP_UNMAP_BEGINS, PGSIZE_STEP_MAP_CLAIMED);
	ASSERT_SOUND(gates_set(&gates));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, unmap, self));
	ASSERT_SOUND(gates_wait(PGSIZE_STEP_UNMAP_BEGINS));
	EXPECT_SOUND(dirty_bits_are(self->bitmap, SIZE, DIRTY({ 3, 1 }, { 600, 2 })));
	self->vmm.faults_expected = 1;
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 9, 1 })));
	ASSERT_SOUND(gates_set(&(struct gates){}));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(0, self->ret);
	EXPECT_EQ(SIZE, self->bytes);
	EXPECT_SOUND(dirty_bits_are(self->bitmap, SIZE, DIRTY({ 3, 1 }, { 600, 2 })));
	EXPECT_EQ(0, memcmp(self->memory.va + 9 * PAGE, before, PAGE));
}

TEST_PROGRAM("Devices write during an UNMAP_DMA that tells what they wrote.")
