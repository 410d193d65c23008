// SPDX-License-Identifier: GPL-2.0
/*
 * The rule behind this module, with vfio_iommu_type1: DMA through a leaf of 2M or more faults
 * if any page of its 2M is assigned, DMA through a 4K leaf if its page is.
 */
#include <stdio.h>

#include "device.h"
#include "guest.h"
#include "harness.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(64)

/* The 2M under test, and two pages of it. */
#define HUGE	MIB(6)
#define PAGE_A	(HUGE + 5 * PAGE)
#define PAGE_B	(HUGE + 300 * PAGE)
/* The next 2M, in the same mapping. */
#define NEXT	(HUGE + MIB(2))

FIXTURE(dma) {
	struct vmm vmm;
	struct memory memory;
	struct device device;
	struct guest guest;
};

FIXTURE_VARIANT(dma) {
	bool small;	/* vfio_iommu_type1's disable_hugepages=1: leaves of 4K */
};

FIXTURE_VARIANT_ADD(dma, large) { .small = false };
FIXTURE_VARIANT_ADD(dma, small) { .small = true };

static problem disable_hugepages(bool on)
{
	FILE *file = fopen("/sys/module/vfio_iommu_type1/parameters/disable_hugepages", "w");

	if (!file || fprintf(file, "%d\n", on) < 0 || fclose(file))
		return problem_is("vfio_iommu_type1's disable_hugepages: %m");
	return NULL;
}

FIXTURE_SETUP(dma)
{
	ASSERT_SOUND(disable_hugepages(variant->small));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	fill_with_pattern(self->memory.va, SIZE);
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE,
				   variant->small ? ONLY_4K : ANY_SIZE, READ_WRITE));
	ASSERT_SOUND(device_start(&self->device, &self->vmm, 0));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
}

FIXTURE_TEARDOWN(dma)
{
	guest_stop(&self->guest);
	device_stop(&self->device);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

#define WORKS(page) \
	EXPECT_SOUND(device_works(&self->device, AT + (page), self->memory.va + (page)))
#define FAULTS(page, why) \
	EXPECT_SOUND(device_faults(&self->device, AT + (page), self->memory.va + (page), why))
/* The one difference between leaf sizes. */
#define FAULTS_IF_LARGE(page)								\
	EXPECT_SOUND(variant->small ?							\
		device_works(&self->device, AT + (page), self->memory.va + (page)) :	\
		device_faults(&self->device, AT + (page), self->memory.va + (page), FAULT_SIZE))

TEST_F_TIMEOUT(dma, untouched, TIMEOUT)
{
	WORKS(0);
	WORKS(PAGE_A);
	WORKS(SIZE - PAGE);
	EXPECT_SOUND(guest_page_is(&self->guest, PAGE_A, false, false));
}

TEST_F_TIMEOUT(dma, one_page_assigned, TIMEOUT)
{
	/* Fill the IOTLB with both translations: IOTLB hits are checked, too. */
	WORKS(PAGE_A);
	WORKS(PAGE_B);
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_A, false));
	EXPECT_SOUND(guest_page_is(&self->guest, PAGE_A, true, false));
	EXPECT_SOUND(guest_page_is(&self->guest, PAGE_B, false, false));
	FAULTS(PAGE_A, FAULT_ASSIGNED);
	FAULTS_IF_LARGE(PAGE_B);
	FAULTS_IF_LARGE(PAGE_A - PAGE);
	FAULTS_IF_LARGE(PAGE_A + PAGE);
	FAULTS_IF_LARGE(HUGE);
	FAULTS_IF_LARGE(NEXT - PAGE);
	WORKS(HUGE - PAGE);
	WORKS(NEXT);
	ASSERT_SOUND(guest_share(&self->guest, PAGE_A, false));
	WORKS(PAGE_A);
	WORKS(PAGE_B);
}

TEST_F_TIMEOUT(dma, assigned_and_smashed, TIMEOUT)
{
	WORKS(PAGE_A);
	ASSERT_SOUND(guest_assign(&self->guest, HUGE, true));
	EXPECT_SOUND(guest_page_is(&self->guest, HUGE, true, true));
	EXPECT_SOUND(guest_page_is(&self->guest, PAGE_A, true, true));
	FAULTS(HUGE, FAULT_ASSIGNED);
	FAULTS(PAGE_A, FAULT_ASSIGNED);
	WORKS(NEXT);
	ASSERT_SOUND(guest_smash(&self->guest, HUGE));
	EXPECT_SOUND(guest_page_is(&self->guest, HUGE, true, false));
	EXPECT_SOUND(guest_page_is(&self->guest, PAGE_A, true, false));
	FAULTS(HUGE, FAULT_ASSIGNED);
	FAULTS(PAGE_A, FAULT_ASSIGNED);
	FAULTS(NEXT - PAGE, FAULT_ASSIGNED);
	WORKS(NEXT);
}

TEST_F_TIMEOUT(dma, smashed_and_shared, TIMEOUT)
{
	ASSERT_SOUND(guest_assign(&self->guest, HUGE, true));
	ASSERT_SOUND(guest_smash(&self->guest, HUGE));
	ASSERT_SOUND(guest_share_pages(&self->guest, HUGE, PAGE_A - HUGE));
	ASSERT_SOUND(guest_share_pages(&self->guest, PAGE_A + PAGE, NEXT - PAGE_A - PAGE));
	/* All but one. */
	FAULTS(PAGE_A, FAULT_ASSIGNED);
	FAULTS_IF_LARGE(PAGE_B);
	WORKS(NEXT);
	ASSERT_SOUND(guest_share(&self->guest, PAGE_A, false));
	EXPECT_SOUND(guest_page_is(&self->guest, PAGE_A, false, false));
	WORKS(PAGE_A);
	WORKS(PAGE_B);
	/* And a 2M again, and back at once. */
	ASSERT_SOUND(guest_assign(&self->guest, HUGE, true));
	FAULTS(PAGE_B, FAULT_ASSIGNED);
	ASSERT_SOUND(guest_share(&self->guest, HUGE, true));
	WORKS(PAGE_B);
}

/* The same for translations that are not in the IOTLB. */
TEST_F_TIMEOUT(dma, mapped_after, TIMEOUT)
{
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_A, false));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	FAULTS(PAGE_A, FAULT_ASSIGNED);
	FAULTS_IF_LARGE(PAGE_B);
	WORKS(NEXT);
}

/* Closing the guest returns the memory unchanged. */
TEST_F_TIMEOUT(dma, guest_is_gone, TIMEOUT)
{
	ASSERT_SOUND(guest_assign(&self->guest, HUGE, true));
	ASSERT_SOUND(guest_assign(&self->guest, NEXT + PAGE, false));
	guest_stop(&self->guest);
	WORKS(PAGE_A);
	WORKS(NEXT + PAGE);
	WORKS(NEXT);
}

TEST_PROGRAM("DMA through large and small leaves to memory in every state of the RMP.")
