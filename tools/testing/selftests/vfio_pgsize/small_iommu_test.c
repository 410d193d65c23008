// SPDX-License-Identifier: GPL-2.0
/*
 * An IOMMU with 4K leaves only, through the kernel option amd_iommu=nohugepages: no policy makes
 * larger ones.
 */
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(4)

FIXTURE(small_iommu) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(small_iommu)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(small_iommu)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

TEST_F_TIMEOUT(small_iommu, has_4k_only, TIMEOUT)
{
	struct info info;

	ASSERT_SOUND(container_info(self->vmm.container, &info));
	EXPECT_EQ(PAGE, info.pgsizes);
	EXPECT_EQ(PAGE, info.policy.supported);
	EXPECT_EQ(-EINVAL, policy_of_all(self->vmm.container, 0, UPTO_2M));
	EXPECT_EQ(0, policy_of_all(self->vmm.container, 0, ONLY_4K));
}

TEST_F_TIMEOUT(small_iommu, apply_makes_none_larger, TIMEOUT)
{
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ONLY_4K, READ_WRITE));
	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, ANY_SIZE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ONLY_4K, READ_WRITE));
	ASSERT_EQ(0, policy_set(self->vmm.container,
				VFIO_PGSIZE_POLICY_RANGE | VFIO_PGSIZE_POLICY_APPLY, AT + PAGE,
				MIB(2), ANY_SIZE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ONLY_4K, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

TEST_PROGRAM("Checks that no policy makes leaves that the IOMMU was told not to have.")
