// SPDX-License-Identifier: GPL-2.0
/*
 * default_pgsizes: the leaves in containers whose VMM sets no policy, of each type. A VMM's own
 * policy wins. A container keeps the default that it started with.
 */
#include <stdio.h>

#include "harness.h"
#include "module.h"
#include "text.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(8)
#define PARAMETERS "/sys/module/vfio_pgsize/parameters/"

FIXTURE(default) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_VARIANT(default) {
	unsigned long type;
};

FIXTURE_VARIANT_ADD(default, pgsize) { VFIO_PGSIZE_IOMMU };
FIXTURE_VARIANT_ADD(default, type1v2) { VFIO_TYPE1v2_IOMMU };
FIXTURE_VARIANT_ADD(default, type1) { VFIO_TYPE1_IOMMU };

FIXTURE_SETUP(default)
{
	ASSERT_SOUND(module_require("serve_type1=1 serve_type1v2=1 default_pgsizes=4K,2M default_follow=1"));
	ASSERT_SOUND(text_write(PARAMETERS "default_pgsizes", "4K"));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
}

FIXTURE_TEARDOWN(default)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* What debugfs calls the origin of the policy. */
static problem owner_says(struct vmm *vmm, const char *line)
{
	problem wrong = NULL;
	struct info info;
	char path[128];
	char *text;

	wrong = container_info(vmm->container, &info);
	if (wrong)
		return wrong;
	snprintf(path, sizeof(path), "/sys/kernel/debug/vfio_pgsize/%llu/owner",
		 info.policy.container);
	text = text_read(path);
	if (!text || !strstr(text, line))
		wrong = problem_is("%s has no line %s", path, line);
	free(text);
	return wrong;
}

static problem has_policy(struct vmm *vmm, uint64_t sizes)
{
	struct vfio_pgsize_policy policy;
	struct info info;
	problem wrong = container_info(vmm->container, &info);

	if (wrong)
		return wrong;
	if (policy_get(vmm->container, &policy, 0, 0))
		return problem_is("GET_POLICY: %m");
	if (policy.pgsizes != sizes || policy.flags || info.policy.pgsizes != sizes)
		return problem_is("the policy is %#llx, flags %#x, and by GET_INFO %#llx; not %#lx",
				  policy.pgsizes, policy.flags, info.policy.pgsizes, sizes);
	return NULL;
}

/* This is no SNP host, so nothing follows. */
TEST_F_TIMEOUT(default, applies, TIMEOUT)
{
	EXPECT_SOUND(has_policy(&self->vmm, ONLY_4K));
	EXPECT_SOUND(owner_says(&self->vmm, "\npolicy default\n"));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ONLY_4K, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
}

/* Of the VMM's, only the policy of the container replaces it. */
TEST_F_TIMEOUT(default, vmm_wins, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_EQ(0, policy_set(container, VFIO_PGSIZE_POLICY_RANGE, 0, PAGE, UPTO_2M));
	ASSERT_EQ(-EINVAL, policy_of_all(container, 0, MIB(2)));
	EXPECT_SOUND(has_policy(&self->vmm, ONLY_4K));
	EXPECT_SOUND(owner_says(&self->vmm, "\npolicy default\n"));
	ASSERT_EQ(0, policy_of_all(container, 0, ANY_SIZE));
	EXPECT_SOUND(has_policy(&self->vmm, ANY_SIZE));
	EXPECT_SOUND(owner_says(&self->vmm, "\npolicy set\n"));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ANY_SIZE, READ_WRITE));
}

/* A change is for later containers. */
TEST_F_TIMEOUT(default, changes_later, TIMEOUT)
{
	struct vmm later;

	ASSERT_SOUND(text_write(PARAMETERS "default_pgsizes", "4K,2M"));
	ASSERT_SOUND(vmm_open_with(&later, variant->type, 1, 1));
	EXPECT_SOUND(has_policy(&self->vmm, ONLY_4K));
	EXPECT_SOUND(has_policy(&later, UPTO_2M));
	EXPECT_SOUND(vmm_close(&later));
	/* A group that joins changes nothing. */
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_SOUND(has_policy(&self->vmm, ONLY_4K));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ONLY_4K, READ_WRITE));
}

/* Sizes that the IOMMU lacks are not used: AMD's has no leaves of 512G, and memory no contiguous 2P. */
TEST_F_TIMEOUT(default, sizes_beyond, TIMEOUT)
{
	struct vmm other;

	ASSERT_SOUND(text_write(PARAMETERS "default_pgsizes", "4K,2M,512G,2P"));
	ASSERT_SOUND(vmm_open_with(&other, variant->type, 1, 1));
	ASSERT_SOUND(vmm_map(&other, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&other, AT, self->memory.va, SIZE, UPTO_2M, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&other, 1, AT, self->memory.va, SIZE));
	EXPECT_SOUND(vmm_close(&other));
}

TEST_PROGRAM("The default policy applies to containers whose VMM sets none.")
