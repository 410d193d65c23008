// SPDX-License-Identifier: GPL-2.0
/*
 * The negative control: the same machine without SNP. Nobody can assign a page,
 * large leaves work everywhere, and there is no event.
 */
#include <stdlib.h>

#include "harness.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(4)
#define SIZE	MIB(64)

TEST(no_snp_host)
{
	EXPECT_NE(0, system("grep -w sev_snp /proc/cpuinfo"));
	EXPECT_NE(0, system(". /lib/vm.sh && load_snp_host"));
}

TEST(dma_works)
{
	struct memory memory = {};
	struct vmm vmm;

	ASSERT_SOUND(memory_alloc(&memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_SOUND(vmm_map(&vmm, AT, memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&vmm, AT, memory.va, SIZE, ANY_SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&vmm, 0, AT, memory.va, SIZE));
	EXPECT_EQ(0, vmm.log.rmp_faults);
	/* The log is not read in vain: a fault of the other kind is seen in it. */
	EXPECT_SOUND(vmm_fetch_faults(&vmm, 0, AT + SIZE));
	EXPECT_EQ(0, vmm.log.rmp_faults);
	EXPECT_SOUND(vmm_close(&vmm));
	memory_free(&memory);
	huge_pages_release();
}

TEST_PROGRAM("The machine without SNP: no page can be assigned, and no DMA faults.")
