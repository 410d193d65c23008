// SPDX-License-Identifier: GPL-2.0
/*
 * Followed memory that comes and goes, and large leaves: nothing stays pinned, locked or watched,
 * and later smashes find no watch.
 */
#include <errno.h>
#include <unistd.h>

#include "harness.h"
#include "kill.h"
#include "module.h"
#include "scene.h"
#include "wait.h"

#define SIZE	MIB(16)

FIXTURE(life) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
};

FIXTURE_SETUP(life)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, NULL, SIZE));
	ASSERT_SOUND(scene_follow(&self->vmm, &self->memory));
	/* One split, one about to be merged, one private. */
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(1, 5), false));
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(2, 5), false));
	ASSERT_SOUND(guest_share(&self->guest, PAGE_OF(2, 5), false));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(3), true));
}

FIXTURE_TEARDOWN(life)
{
	guest_stop(&self->guest);
	memory_free(&self->memory);
	huge_pages_release();
}

/* All calls that the hook handles, with nothing mapped. */
static problem smash_on(struct guest *guest)
{
	problem wrong = guest_smash(guest, PIECE(3));

	if (!wrong)
		wrong = guest_share_pages(guest, PIECE(3), MIB(2));
	if (!wrong)
		wrong = guest_share(guest, PIECE(3), true);
	if (!wrong)
		wrong = guest_assign(guest, PAGE_OF(1, 6), false);
	if (!wrong)
		wrong = guest_assign(guest, PAGE_OF(4, 6), false);
	return wrong;
}

TEST_F_TIMEOUT(life, unmap_and_map, TIMEOUT)
{
	struct mapped mapped = { AT, self->memory.va, SIZE, BIT(1) | BIT(4) };
	struct vfio_pgsize_stats stats;

	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	ASSERT_SOUND(follow_stats(&self->vmm, &stats));
	ASSERT_SOUND(smash_on(&self->guest));
	EXPECT_SOUND(follow_counted(&self->vmm, &stats, 0, 0));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(follow_has(&self->vmm, &mapped, 1, 0));
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(6, 6), false));
	mapped.small |= BIT(6);
	EXPECT_SOUND(follow_has(&self->vmm, &mapped, 1, 0));
	EXPECT_SOUND(vmm_close(&self->vmm));
}

TEST_F_TIMEOUT(life, close, TIMEOUT)
{
	EXPECT_TRUE(follow_is_hooked());
	EXPECT_EQ(-EAGAIN, module_unload());
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_EQ(0, follow_followers());
	/* For some seconds the hook stays registered without followers. */
	EXPECT_SOUND(smash_on(&self->guest));
	EXPECT_SOUND(follow_ends());
	EXPECT_SOUND(guest_assign(&self->guest, PAGE_OF(5, 6), false));
}

/*
 * Following is switched on and off, by a policy and by containers that come and go: the
 * kernel is patched once, and leaves that follow meanwhile are split and merged as usual.
 */
TEST_F_TIMEOUT(life, on_and_off, TIMEOUT)
{
	long before = follow_registrations();
	struct vfio_pgsize_stats stats;

	EXPECT_LT(0, before);
	for (int round = 0; round < 20; round++) {
		ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
		ASSERT_EQ(0, follow_followers());
		ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
		ASSERT_EQ(1, follow_followers());
		ASSERT_SOUND(follow_stats(&self->vmm, &stats));
		ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(5, 6), false));
		ASSERT_SOUND(follow_counted(&self->vmm, &stats, 1, 0));
		ASSERT_SOUND(guest_share_pages(&self->guest, PIECE(5), MIB(2)));
		ASSERT_SOUND(guest_share(&self->guest, PIECE(5), true));
		ASSERT_SOUND(follow_counted(&self->vmm, &stats, 1, 1));
	}
	for (int round = 0; round < 3; round++) {
		ASSERT_SOUND(vmm_close(&self->vmm));
		ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
		ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	}
	EXPECT_EQ(before, follow_registrations());
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	EXPECT_TRUE(follow_is_hooked());
	EXPECT_SOUND(follow_ends());
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	EXPECT_TRUE(follow_is_hooked());
	EXPECT_EQ(before + 1, follow_registrations());
	EXPECT_SOUND(vmm_close(&self->vmm));
}

TEST_F_TIMEOUT(life, last_group_detached, TIMEOUT)
{
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_SOUND(smash_on(&self->guest));
	EXPECT_TRUE(follow_is_hooked());
	/* The idle hook blocks nothing. */
	EXPECT_EQ(0, module_unload());
	EXPECT_FALSE(follow_is_hooked());
	EXPECT_SOUND(vmm_close(&self->vmm));
}

TEST_F_TIMEOUT(life, module_unloaded, TIMEOUT)
{
	/* Deferred work does not run any more. */
	EXPECT_SOUND(vmm_close(&self->vmm));
	ASSERT_SOUND(module_require_none());
	EXPECT_SOUND(smash_on(&self->guest));
	sleep(1);
}

/* --- the VMM is killed -------------------------------------------------------- */

FIXTURE(killed) {
	struct kernel_log log;
};

FIXTURE_SETUP(killed)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(kernel_log_start(&self->log));
}

FIXTURE_TEARDOWN(killed)
{
	EXPECT_SOUND(kernel_log_end(&self->log));
	huge_pages_release();
}

/* Maps and unmaps, splits and merges, until it is killed. */
static void map_and_convert(void *arg, int ready)
{
	struct memory memory = {};
	struct guest guest;
	struct vmm vmm;

	if (memory_alloc(&memory, HUGETLB_2M, SIZE) || guest_start(&guest, memory.va, SIZE) ||
	    vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1) || vmm_policy(&vmm, FOLLOW, UPTO_2M) ||
	    !kill_when_ready(ready))
		_exit(1);
	for (;;) {
		if (vmm_map(&vmm, AT, memory.va, SIZE, READ_WRITE) ||
		    guest_assign(&guest, PAGE_OF(1, 5), false) ||
		    guest_assign(&guest, PIECE(3), true) || guest_smash(&guest, PIECE(3)) ||
		    guest_share_pages(&guest, PIECE(3), MIB(2)) ||
		    guest_share(&guest, PAGE_OF(1, 5), false) ||
		    dma_unmap_exactly(vmm.container, AT, SIZE))
			_exit(2);
	}
}

TEST_F_TIMEOUT(killed, in_the_middle, TIMEOUT)
{
	struct account before;

	ASSERT_SOUND(account_read(&before));
	for (int round = 0; round < 10; round++) {
		struct wait wait = {};
		problem wrong;

		ASSERT_SOUND(kill_at_work(map_and_convert, NULL, 50000 + round * 7919));
		do {
			wrong = account_rose(&before, 0, 0);
			if (!wrong && follow_followers())
				wrong = "somebody follows still";
		} while (wrong && wait_more(&wait, MOMENT));
		ASSERT_SOUND(wrong);
	}
}

TEST_PROGRAM("Followed memory that is unmapped, closed, detached and killed.")
