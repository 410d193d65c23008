// SPDX-License-Identifier: GPL-2.0
/*
 * Leaves of each size of AMD's host page table, including sizes between those of the levels:
 * below 2M each page is checked separately; from 2M on each 2M of the leaf is.
 */
#include "device.h"
#include "guest.h"
#include "harness.h"
#include "units.h"

#define AT	GIB(4)

FIXTURE(leaves) {
	struct vmm vmm;
	struct memory memory;	/* one page of 1G */
	struct device device;
	struct guest guest;
};

FIXTURE_SETUP(leaves)
{
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_1G, GIB(1)));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_SOUND(device_start(&self->device, &self->vmm, 0));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, GIB(1)));
	self->vmm.faults_expected = 1;
}

FIXTURE_TEARDOWN(leaves)
{
	guest_stop(&self->guest);
	device_stop(&self->device);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* A single leaf in the table, besides the device's scratch page. */
static problem is_one_leaf(struct vmm *vmm, uint64_t start, uint64_t size)
{
	struct leaves expected = {};
	problem wrong;

	leaves_add(&expected, AT + start, size, size, READ_WRITE);
	leaves_add(&expected, SCRATCH_IOVA, PAGE, PAGE, READ_WRITE);
	wrong = vmm_has_leaves(vmm, &expected);
	leaves_free(&expected);
	return wrong;
}

static problem works(FIXTURE_DATA(leaves) *self, uint64_t at)
{
	return device_works(&self->device, AT + at, self->memory.va + at);
}

static problem is_refused(FIXTURE_DATA(leaves) *self, uint64_t at, enum fault why)
{
	return device_is_refused(&self->device, AT + at, self->memory.va + at, why);
}

/* DMA to `at` while the guest has the page `assigned` of the same leaf. */
static problem shares_leaf(FIXTURE_DATA(leaves) *self, uint64_t size, uint64_t at,
			   uint64_t assigned)
{
	if (at == assigned)
		return is_refused(self, at, FAULT_ASSIGNED);
	if (size >= MIB(2) && at / MIB(2) == assigned / MIB(2))
		return is_refused(self, at, FAULT_SIZE);
	return works(self, at);
}

TEST_F_TIMEOUT(leaves, every_size, 2 * TIMEOUT)
{
	for (uint64_t size = PAGE; size <= GIB(1); size *= 2) {
		/* Aligned to its size and no more, so that it is one leaf. */
		uint64_t start = size < GIB(1) ? size : 0;
		uint64_t last = start + size - PAGE, middle = start + size / 2 / PAGE * PAGE;
		uint64_t pages[] = { start, middle, last };
		uint8_t *va = self->memory.va;

		TH_LOG("a leaf of %lu KiB", size / 1024);
		ASSERT_SOUND(vmm_map(&self->vmm, AT + start, va + start, size, READ_WRITE));
		ASSERT_SOUND(is_one_leaf(&self->vmm, start, size));
		for (int i = 0; i < 3; i++) {
			fill_with_pattern(va + pages[i], PAGE);
			ASSERT_SOUND(works(self, pages[i]));
		}
		ASSERT_SOUND(guest_assign(&self->guest, last, false));
		for (int i = 0; i < 3; i++)
			ASSERT_SOUND(shares_leaf(self, size, pages[i], last));
		ASSERT_SOUND(guest_share(&self->guest, last, false));
		/* In the same 2M, if the leaf is small, but not in the leaf. */
		if (start)
			ASSERT_SOUND(guest_assign(&self->guest, start - PAGE, false));
		for (int i = 0; i < 3; i++)
			ASSERT_SOUND(works(self, pages[i]));
		if (start)
			ASSERT_SOUND(guest_share(&self->guest, start - PAGE, false));
		ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + start, size));
	}
}

TEST_PROGRAM("DMA through one leaf of each size, to memory of which one page is assigned.")
