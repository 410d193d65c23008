// SPDX-License-Identifier: GPL-2.0
/*
 * Leaves that follow the RMP: a 2M is split before its entry is smashed or a page of it is
 * assigned, and merged when it is whole again. Nothing else changes.
 */
#include <errno.h>
#include <time.h>

#include "harness.h"
#include "module.h"
#include "rmp.h"
#include "scene.h"

#define SIZE	MIB(16)

FIXTURE(follow) {
	struct vmm vmm;
	struct memory memory;
	struct device device;
	struct guest guest;
	struct vfio_pgsize_stats stats;
	struct rmp_counts counts;
};

FIXTURE_SETUP(follow)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_EQ(0, follow_followers());
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, &self->device, SIZE));
	STATS(&self->stats);
	ASSERT_SOUND(rmp_counts(&self->counts));
}

FIXTURE_TEARDOWN(follow)
{
	struct rmp_counts now = {};

	EXPECT_SOUND(rmp_counts(&now));
	if (!self->vmm.faults_expected)
		EXPECT_EQ(self->counts.dma_faults, now.dma_faults);
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, &self->device));
	EXPECT_EQ(0, follow_followers());
}

#define COUNTED(splits, merges) \
	EXPECT_SOUND(follow_counted(&self->vmm, &self->stats, splits, merges))
#define ASSIGN_2M(i) ASSERT_SOUND(guest_assign(&self->guest, PIECE(i), true))
#define SHARE_2M(i) ASSERT_SOUND(guest_share(&self->guest, PIECE(i), true))
#define SMASH(i) ASSERT_SOUND(guest_smash(&self->guest, PIECE(i)))

/* --- the policy ------------------------------------------------------------ */

TEST_F_TIMEOUT(follow, policy, TIMEOUT)
{
	struct vfio_pgsize_policy policy;
	int container = self->vmm.container;
	uint32_t range = VFIO_PGSIZE_POLICY_RANGE;

	ASSERT_EQ(0, policy_get(container, &policy, 0, 0));
	EXPECT_EQ(0, policy.flags & FOLLOW);
	EXPECT_EQ(-EINVAL, policy_of_all(container, MERGE, UPTO_2M));
	EXPECT_EQ(-EINVAL, policy_set(container, range | MERGE, AT, SIZE, UPTO_2M));
	EXPECT_EQ(0, follow_followers());

	POLICY(SPLIT);
	EXPECT_TRUE(follow_is_hooked());
	EXPECT_EQ(1, follow_followers());
	ASSERT_EQ(0, policy_get(container, &policy, 0, 0));
	EXPECT_EQ(SPLIT, policy.flags & FOLLOW);
	POLICY(FOLLOW);
	ASSERT_EQ(0, policy_get(container, &policy, 0, 0));
	EXPECT_EQ(FOLLOW, policy.flags & FOLLOW);
	EXPECT_EQ(UPTO_2M, policy.pgsizes);
	ASSERT_EQ(0, policy_get(container, &policy, range, AT));
	EXPECT_EQ(FOLLOW | VFIO_PGSIZE_POLICY_INHERIT,
		  policy.flags & (FOLLOW | VFIO_PGSIZE_POLICY_INHERIT));
	POLICY(0);
	EXPECT_EQ(0, follow_followers());

	ASSERT_EQ(0, policy_set(container, range | SPLIT, AT, SIZE, UPTO_2M));
	EXPECT_TRUE(follow_is_hooked());
	EXPECT_EQ(1, follow_followers());
	ASSERT_EQ(0, policy_get(container, &policy, range, AT));
	EXPECT_EQ(SPLIT, policy.flags & FOLLOW);
	EXPECT_EQ(SIZE, policy.size);
	ASSERT_EQ(0, policy_get(container, &policy, range, AT + SIZE));
	EXPECT_EQ(0, policy.flags & FOLLOW);
	ASSERT_EQ(0, policy_get(container, &policy, 0, 0));
	EXPECT_EQ(0, policy.flags & FOLLOW);
	ASSERT_EQ(0, policy_set(container, range | VFIO_PGSIZE_POLICY_INHERIT, AT, SIZE, 0));
	EXPECT_EQ(0, follow_followers());
}

/* Such a policy allows only 4K leaves: nothing follows. */
TEST_F_TIMEOUT(follow, policy_of_4k, TIMEOUT)
{
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, ONLY_4K));
	EXPECT_EQ(0, follow_followers());
	MAP(AT);
	ASSIGN_2M(3);
	SMASH(3);
	SMALL(0xff);
	COUNTED(0, 0);
}

/* --- split ------------------------------------------------------------------ */

TEST_F_TIMEOUT(follow, off_by_default, TIMEOUT)
{
	POLICY(0);
	MAP(AT);
	ASSIGN_2M(3);
	SMASH(3);
	ASSIGN(PAGE_OF(5, 7));
	SMALL(0);
	COUNTED(0, 0);
}

TEST_F_TIMEOUT(follow, smash, TIMEOUT)
{
	POLICY(SPLIT);
	MAP(AT);
	SMALL(0);
	ASSIGN_2M(3);
	SMALL(0);
	COUNTED(0, 0);
	SMASH(3);
	SMALL(BIT(3));
	COUNTED(1, 0);
	SHARE(PAGE_OF(3, 0));
	SHARE(PAGE_OF(3, 511));
	WORKS(PAGE_OF(3, 0));
	WORKS(PAGE_OF(3, 511));
	WORKS(PAGE_OF(2, 511));
	WORKS(PAGE_OF(4, 0));
	ASSIGN_2M(7);
	ASSIGN_2M(0);
	SMASH(0);
	SMASH(7);
	SMALL(BIT(0) | BIT(3) | BIT(7));
	COUNTED(3, 0);
}

TEST_F_TIMEOUT(follow, page_assigned, TIMEOUT)
{
	POLICY(SPLIT);
	MAP(AT);
	ASSIGN(PAGE_OF(5, 7));
	SMALL(BIT(5));
	WORKS(PAGE_OF(5, 6));
	WORKS(PAGE_OF(5, 8));
	ASSIGN(PAGE_OF(5, 9));
	SMALL(BIT(5));
	COUNTED(1, 0);
	/* No MERGE. */
	SHARE(PAGE_OF(5, 7));
	SHARE(PAGE_OF(5, 9));
	SHARE_2M(5);
	sleep(2);
	SMALL(BIT(5));
	COUNTED(1, 0);
	WORKS(PAGE_OF(5, 7));
}

/* Pages are assigned and shared while the device accesses all others of the 2M. */
TEST_F_TIMEOUT(follow, dma_meanwhile, TIMEOUT)
{
	struct prober prober;
	int cycles = 0;

	POLICY(FOLLOW);
	MAP(AT);
	ASSERT_SOUND(prober_start(&prober, &self->device, AT + PIECE(5), self->memory.va + PIECE(5)));
	while ((prober.rounds < 1 || cycles < 40) && !prober.wrong) {
		int page = (cycles * 37 + 11) % 512;

		prober_skip(&prober, page, true);
		ASSIGN(PAGE_OF(5, page));
		usleep(cycles * 977 % 20000);
		SHARE(PAGE_OF(5, page));
		prober_skip(&prober, page, false);
		if (cycles % 3)
			SHARE_2M(5);
		cycles++;
	}
	EXPECT_SOUND(prober_stop(&prober));
	TH_LOG("%d cycles, %lu transfers", cycles, prober.done);
	SMALL_SOON(0);
}

/* The same for a smash, without a page left out: the 2M is shared, so the call is refused. */
TEST_F_TIMEOUT(follow, dma_to_all_meanwhile, TIMEOUT)
{
	struct vfio_pgsize_stats stats;
	struct prober prober;
	uint64_t cycles = 0;

	POLICY(FOLLOW);
	MAP(AT);
	ASSERT_SOUND(prober_start(&prober, &self->device, AT + PIECE(5), self->memory.va + PIECE(5)));
	while ((prober.rounds < 1 || cycles < 40) && !prober.wrong) {
		ASSERT_NE(NULL, guest_smash(&self->guest, PIECE(5)));
		usleep(cycles * 977 % 5000);
		SHARE_2M(5);
		cycles++;
	}
	EXPECT_SOUND(prober_stop(&prober));
	TH_LOG("%lu cycles, %lu transfers", cycles, prober.done);
	SMALL(0);
	ASSERT_SOUND(follow_stats(&self->vmm, &stats));
	EXPECT_EQ(cycles, stats.splits);
	EXPECT_EQ(cycles, stats.merges);
}

TEST_F_TIMEOUT(follow, twice_in_a_container, TIMEOUT)
{
	struct mapped mapped[] = {
		{ AT, self->memory.va, SIZE, BIT(2) },
		{ AT_TOO, self->memory.va, SIZE, BIT(2) },
	};

	POLICY(FOLLOW);
	MAP(AT);
	MAP(AT_TOO);
	ASSIGN(PAGE_OF(2, 100));
	EXPECT_SOUND(follow_has(&self->vmm, mapped, 2, 1));
	COUNTED(2, 0);
	WORKS(PAGE_OF(2, 99));
	SHARE(PAGE_OF(2, 100));
	SHARE_2M(2);
	mapped[0].small = mapped[1].small = 0;
	EXPECT_SOUND(follow_has(&self->vmm, mapped, 2, 1));
	COUNTED(2, 2);
	/* One goes, the other still follows. */
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT_TOO, SIZE));
	ASSIGN(PAGE_OF(6, 0));
	SMALL(BIT(6));
	COUNTED(3, 2);
}

/* IOVA and address differ within 2M: no large leaf, nothing to follow. */
TEST_F_TIMEOUT(follow, askew, TIMEOUT)
{
	POLICY(FOLLOW);
	ASSERT_SOUND(vmm_map(&self->vmm, AT + PAGE, self->memory.va, SIZE, READ_WRITE));
	ASSIGN_2M(2);
	SMASH(2);
	COUNTED(0, 0);
	SHARE(PAGE_OF(2, 4));
	EXPECT_SOUND(device_works(&self->device, AT + PAGE + PAGE_OF(2, 4),
				  self->memory.va + PAGE_OF(2, 4)));
}

TEST_F_TIMEOUT(follow, two_containers, TIMEOUT)
{
	struct mapped mapped = { AT_TOO, self->memory.va, SIZE, BIT(4) };
	struct device device;
	struct vmm other;

	POLICY(FOLLOW);
	MAP(AT);
	ASSERT_SOUND(vmm_open_with(&other, VFIO_PGSIZE_IOMMU, 1, 1));
	ASSERT_SOUND(device_start(&device, &other, 1));
	ASSERT_SOUND(dma_unmap_exactly(other.container, SCRATCH_IOVA, PAGE));
	ASSERT_SOUND(vmm_policy(&other, SPLIT, UPTO_2M));
	ASSERT_SOUND(vmm_map(&other, AT_TOO, self->memory.va, SIZE, READ_WRITE));
	ASSIGN(PAGE_OF(4, 100));
	SMALL(BIT(4));
	EXPECT_SOUND(follow_has(&other, &mapped, 1, 0));
	SHARE(PAGE_OF(4, 100));
	SHARE_2M(4);
	/* Each by its own policy. */
	SMALL(0);
	EXPECT_SOUND(follow_has(&other, &mapped, 1, 0));
	/* When one stops following, the other continues. */
	ASSERT_SOUND(vmm_policy(&other, 0, UPTO_2M));
	ASSIGN(PAGE_OF(1, 0));
	SMALL(BIT(1));
	EXPECT_SOUND(follow_has(&other, &mapped, 1, 0));
	device_stop(&device);
	ASSERT_SOUND(vmm_close(&other));
	EXPECT_TRUE(follow_is_hooked());
	EXPECT_EQ(1, follow_followers());
	ASSIGN(PAGE_OF(2, 0));
	SMALL(BIT(1) | BIT(2));
}

TEST_F_TIMEOUT(follow, group_attached_later, TIMEOUT)
{
	POLICY(FOLLOW);
	MAP(AT);
	ASSIGN(PAGE_OF(4, 100));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	SMALL(BIT(4));
	ASSIGN(PAGE_OF(6, 100));
	SMALL(BIT(4) | BIT(6));
	vmm_detach(&self->vmm, 1);
	ASSIGN(PAGE_OF(7, 100));
	SMALL(BIT(4) | BIT(6) | BIT(7));
}

/* --- correct from the first map ----------------------------------------------- */

TEST_F_TIMEOUT(follow, mapped_over_broken, TIMEOUT)
{
	POLICY(FOLLOW);
	ASSIGN(PAGE_OF(0, 3));
	ASSIGN_2M(5);
	SMASH(5);
	ASSIGN_2M(6);
	MAP(AT);
	SMALL(BIT(0) | BIT(5));
	COUNTED(0, 0);
	WORKS(PAGE_OF(0, 4));
	SMASH(6);
	SMALL(BIT(0) | BIT(5) | BIT(6));
}

TEST_F_TIMEOUT(follow, policy_over_broken, TIMEOUT)
{
	POLICY(0);
	ASSIGN(PAGE_OF(0, 3));
	MAP(AT);
	ASSIGN_2M(5);
	SMASH(5);
	SMALL(0);
	POLICY(SPLIT);
	SMALL(BIT(0) | BIT(5));
	WORKS(PAGE_OF(0, 4));
	/* And it follows. */
	ASSIGN(PAGE_OF(2, 0));
	SMALL(BIT(0) | BIT(2) | BIT(5));
	/* A broken block stays small when all are to be large ... */
	ASSERT_SOUND(vmm_policy(&self->vmm, SPLIT | VFIO_PGSIZE_POLICY_APPLY, ONLY_4K));
	SMALL(0xff);
	ASSERT_SOUND(vmm_policy(&self->vmm, SPLIT | VFIO_PGSIZE_POLICY_APPLY, UPTO_2M));
	SMALL(BIT(0) | BIT(2) | BIT(5));
	WORKS(PAGE_OF(0, 4));
	/* ... until nothing follows. */
	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, UPTO_2M));
	SMALL(0);
}

TEST_F_TIMEOUT(follow, range, TIMEOUT)
{
	ASSERT_EQ(0, policy_of_all(self->vmm.container, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE | SPLIT,
				AT + PIECE(2), PIECE(2), UPTO_2M));
	MAP(AT);
	for (int i = 0; i < 8; i++)
		ASSIGN(PAGE_OF(i, 50 + i));
	SMALL(BIT(2) | BIT(3));
	COUNTED(2, 0);
	WORKS(PAGE_OF(2, 0));
	self->vmm.faults_expected = 1;
	EXPECT_SOUND(device_is_refused(&self->device, AT + PAGE_OF(4, 0),
				       self->memory.va + PAGE_OF(4, 0), FAULT_SIZE));
}

/* --- merge ------------------------------------------------------------------- */

TEST_F_TIMEOUT(follow, merge, TIMEOUT)
{
	POLICY(FOLLOW);
	MAP(AT);
	/* Shared as a whole. */
	ASSIGN(PAGE_OF(1, 9));
	SHARE(PAGE_OF(1, 9));
	SHARE_2M(1);
	SMALL(0);
	COUNTED(1, 1);
	WORKS(PAGE_OF(1, 9));
	/* Private as a whole. */
	ASSIGN(PAGE_OF(2, 9));
	SMALL(BIT(2));
	SHARE(PAGE_OF(2, 9));
	ASSIGN_2M(2);
	SMALL(0);
	COUNTED(2, 2);
	/* Page by page. */
	SMASH(2);
	SMALL(BIT(2));
	ASSERT_SOUND(guest_share_pages(&self->guest, PIECE(2) + PAGE, MIB(2) - PAGE));
	sleep(2);
	SMALL(BIT(2));
	SHARE(PAGE_OF(2, 0));
	SMALL_SOON(0);
	COUNTED(3, 3);
	WORKS(PAGE_OF(2, 0));
	/* And all again. */
	ASSIGN(PAGE_OF(2, 9));
	SMALL(BIT(2));
	COUNTED(4, 3);
}

TEST_PROGRAM("Leaves that follow the RMP: split before a smash, merged when whole, born right.")
