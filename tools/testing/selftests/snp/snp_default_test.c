// SPDX-License-Identifier: GPL-2.0
/*
 * default_follow: an unmodified VMM on an SNP host. Its leaves follow the RMP from the first map on,
 * unless the VMM has a policy of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "module.h"
#include "rmp.h"
#include "scene.h"
#include "text.h"

#define SIZE	MIB(16)

FIXTURE(default) {
	struct vmm vmm;
	struct memory memory;
	struct device device;
	struct guest guest;
	struct rmp_counts counts;
};

FIXTURE_SETUP(default)
{
	ASSERT_SOUND(module_require("serve_type1v2=1 default_pgsizes=4K,2M default_follow=1"));
	ASSERT_EQ(0, follow_followers());
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	fill_with_pattern(self->memory.va, SIZE);
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_SOUND(device_start(&self->device, &self->vmm, 0));
	ASSERT_SOUND(rmp_counts(&self->counts));
}

FIXTURE_TEARDOWN(default)
{
	struct rmp_counts now = {};

	EXPECT_SOUND(rmp_counts(&now));
	if (!self->vmm.faults_expected)
		EXPECT_EQ(self->counts.dma_faults, now.dma_faults);
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, &self->device));
	EXPECT_EQ(0, follow_followers());
}

/* What GET_POLICY and GET_INFO say. */
static problem has_policy(struct vmm *vmm, uint32_t flags, uint64_t sizes)
{
	struct vfio_pgsize_policy policy;
	struct info info;
	problem wrong = container_info(vmm->container, &info);

	if (wrong)
		return wrong;
	if (policy_get(vmm->container, &policy, 0, 0))
		return problem_is("GET_POLICY: %m");
	if (policy.pgsizes != sizes || policy.flags != flags || info.policy.pgsizes != sizes)
		return problem_is("the policy is %#llx, flags %#x, and by GET_INFO %#llx; not %#lx, %#x",
				  policy.pgsizes, policy.flags, info.policy.pgsizes, sizes, flags);
	return NULL;
}

/* It makes no call of vfio_pgsize's. */
TEST_F_TIMEOUT(default, unmodified, TIMEOUT)
{
	struct prober prober;

	EXPECT_TRUE(follow_is_hooked());
	EXPECT_EQ(1, follow_followers());
	/* A 2M is broken before it is mapped. */
	ASSIGN(PAGE_OF(6, 1));
	MAP(AT);
	ASSERT_SOUND(prober_start(&prober, &self->device, AT + PIECE(3), self->memory.va + PIECE(3)));
	prober_skip(&prober, 7, true);
	ASSIGN(PAGE_OF(3, 7));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(5), true));
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(5)));
	EXPECT_SOUND(prober_stop(&prober));
	SMALL(BIT(3) | BIT(5) | BIT(6));
	EXPECT_SOUND(follow_agrees(&self->vmm, 1));
	/* And back. */
	SHARE(PAGE_OF(3, 7));
	SMALL_SOON(BIT(5) | BIT(6));
	WORKS(PAGE_OF(3, 7));
	EXPECT_SOUND(has_policy(&self->vmm, FOLLOW, UPTO_2M));
}

/* The VMM wants large leaves that do not follow. Then the hook goes, too. */
TEST_F_TIMEOUT(default, vmm_wins, TIMEOUT)
{
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	EXPECT_EQ(0, follow_followers());
	EXPECT_SOUND(has_policy(&self->vmm, 0, UPTO_2M));
	MAP(AT);
	ASSIGN(PAGE_OF(3, 7));
	SMALL(0);
}

/* A policy of the VMM's for a range leaves the rest as it was. */
TEST_F_TIMEOUT(default, range, TIMEOUT)
{
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE, AT + PIECE(4),
				PIECE(4), UPTO_2M));
	EXPECT_EQ(1, follow_followers());
	EXPECT_SOUND(has_policy(&self->vmm, FOLLOW, UPTO_2M));
	MAP(AT);
	ASSIGN(PAGE_OF(3, 7));
	ASSIGN(PAGE_OF(5, 7));
	SMALL(BIT(3));
}

/* A second group with the container's domain, and one in a second container. */
TEST_F_TIMEOUT(default, more_groups, TIMEOUT)
{
	struct vmm other;

	MAP(AT);
	ASSERT_SOUND(vmm_open_with(&other, VFIO_TYPE1v2_IOMMU, 1, 1));
	EXPECT_EQ(2, follow_followers());
	ASSERT_SOUND(vmm_map(&other, AT_TOO, self->memory.va, SIZE, READ_WRITE));
	ASSIGN(PAGE_OF(3, 7));
	SMALL(BIT(3));
	EXPECT_SOUND(follow_has(&other, &(struct mapped){ AT_TOO, self->memory.va, SIZE, BIT(3) },
				1, 0));
	EXPECT_SOUND(vmm_close(&other));
	EXPECT_EQ(1, follow_followers());
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	ASSIGN(PAGE_OF(4, 7));
	SMALL(BIT(3) | BIT(4));
}

/* Without the flag, or with sizes that cannot disagree, nothing follows. */
TEST_F_TIMEOUT(default, off, TIMEOUT)
{
	static const char *const parameters[][2] = {
		{ "default_follow", "N" }, { "default_pgsizes", "4K,64K" },
	};
	struct vmm other;

	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
		char path[128], *before;

		snprintf(path, sizeof(path), "/sys/module/vfio_pgsize/parameters/%s",
			 parameters[i][0]);
		before = text_read(path);
		ASSERT_NE(NULL, before);
		ASSERT_SOUND(text_write(path, parameters[i][1]));
		EXPECT_SOUND(vmm_open_with(&other, VFIO_TYPE1v2_IOMMU, 1, 1));
		EXPECT_EQ(1, follow_followers());
		EXPECT_SOUND(has_policy(&other, 0, i ? 1 << 12 | 1 << 16 : UPTO_2M));
		EXPECT_SOUND(vmm_close(&other));
		EXPECT_SOUND(text_write(path, before));
		free(before);
	}
}

TEST_PROGRAM("Leaves of an unmodified VMM follow the RMP by default, if the host says so.")
