// SPDX-License-Identifier: GPL-2.0
/*
 * The leaf sizes that a domain reports to the IOMMU driver when a group is attached: all that it
 * has, whatever the last map used. Intel's driver compares them with those of the group's IOMMU. A
 * probe event reads them.
 */
#include "harness.h"
#include "module.h"
#include "probe.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(2)
#define ATTACH	"iommu_attach_group sizes=domain->pgsize_bitmap:x64"

FIXTURE(domain_sizes) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(domain_sizes)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(probe_begin(ATTACH));
}

FIXTURE_TEARDOWN(domain_sizes)
{
	EXPECT_SOUND(probe_end());
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

static problem says(const uint64_t *values, void *sizes)
{
	if (values[0] == *(uint64_t *)sizes)
		return NULL;
	return problem_is("a domain that has %#lx says %#lx", *(uint64_t *)sizes, values[0]);
}

/* The number of attachments, all to domains that report these sizes. */
static problem attached(uint64_t sizes, int *count)
{
	static const char *const names[] = { "sizes" };

	return probe_each(names, 1, count, says, &sizes);
}

TEST_F_TIMEOUT(domain_sizes, after_a_policy, TIMEOUT)
{
	struct info info;
	int count = 0;

	ASSERT_SOUND(container_info(self->vmm.container, &info));
	ASSERT_NE(PAGE, info.policy.supported);
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, ONLY_4K));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	/* First to its own domain, to check whether it can share the other; then to that. */
	EXPECT_SOUND(attached(info.policy.supported, &count));
	EXPECT_EQ(2, count);
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT, self->memory.va, SIZE));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
}

TEST_PROGRAM("Checks that domains tell IOMMU drivers all leaf sizes that they have.")
