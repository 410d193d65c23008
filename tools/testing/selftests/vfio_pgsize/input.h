/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Bad input: each field of each call wrong in turn. The call returns the documented error
 * and changes nothing: no leaf, no policy, no locked or pinned page.
 */
#ifndef VFIO_PGSIZE_INPUT_H
#define VFIO_PGSIZE_INPUT_H

#include "module.h"
#include "refused.h"

#define AT	GIB(1)
#define SIZE	MIB(4)

FIXTURE(input) {
	struct vmm vmm;
	struct memory memory;
	struct state before;
};

/* A mapping, and a range in it with its own policy. */
FIXTURE_SETUP(input)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE, AT, PAGE, ONLY_4K));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(state_take(&self->vmm, &self->before));
	ASSERT_EQ(512, leaves_count_size(&self->before.leaves, PAGE));
	ASSERT_EQ(1, leaves_count_size(&self->before.leaves, MIB(2)));
}

FIXTURE_TEARDOWN(input)
{
	state_free(&self->before);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

#endif
