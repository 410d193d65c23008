// SPDX-License-Identifier: GPL-2.0
/*
 * What a domain says of its leaf sizes to the IOMMU driver when a group is attached:
 * all that it has, whatever was last mapped with. Intel's driver compares them with
 * those of the group's IOMMU. The kernel tells by a probe event.
 */
#include <stdlib.h>

#include "harness.h"
#include "module.h"
#include "text.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(2)
#define TRACE	"/sys/kernel/tracing/"
#define EVENT	"f:pgsize_test/attach iommu_attach_group sizes=domain->pgsize_bitmap:x64"

FIXTURE(domain_sizes) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(domain_sizes)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(text_write(TRACE "dynamic_events", EVENT));
	ASSERT_SOUND(text_write(TRACE "trace", ""));
	ASSERT_SOUND(text_write(TRACE "events/pgsize_test/attach/enable", "1"));
}

FIXTURE_TEARDOWN(domain_sizes)
{
	EXPECT_SOUND(text_write(TRACE "events/pgsize_test/attach/enable", "0"));
	EXPECT_SOUND(text_write(TRACE "dynamic_events", ""));
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* How many attachments were there, all to domains that say that they have these sizes? */
static problem attached(uint64_t sizes, int *count)
{
	char *text = text_read(TRACE "trace");
	problem wrong = NULL;

	if (!text)
		return problem_is(TRACE "trace: %m");
	*count = 0;
	for (char *at = text; !wrong && (at = strstr(at, "sizes=")); (*count)++) {
		uint64_t said = strtoull(at += strlen("sizes="), NULL, 0);

		if (said != sizes)
			wrong = problem_is("a domain that has %#lx says %#lx", sizes, said);
	}
	free(text);
	return wrong;
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
	/* To a domain of its own, by which it is seen whether it can share the other; to that. */
	EXPECT_SOUND(attached(info.policy.supported, &count));
	EXPECT_EQ(2, count);
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT, self->memory.va, SIZE));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
}

TEST_PROGRAM("Checks that domains tell IOMMU drivers all leaf sizes that they have.")
