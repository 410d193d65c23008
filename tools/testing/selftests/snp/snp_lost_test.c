// SPDX-License-Identifier: GPL-2.0
/*
 * No memory in the hook (fault injection of the debug kernel): the leaf is unmapped, not wrong,
 * and comes back with 4K leaves.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lost.h"
#include "wait.h"

TEST_F_TIMEOUT(lost, comes_back, TIMEOUT)
{
	struct mapped mapped = { AT, self->memory.va, SIZE, BIT(3) };
	struct pollfd event = { .fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN };
	struct vfio_pgsize_stats stats;

	ASSERT_EQ(0, event_set(self->vmm.container, event.fd));
	EXPECT_EQ(0, poll(&event, 1, 2000));
	ASSERT_SOUND(fail_assign(&self->guest, PIECE(3) + PAGE));
	ASSERT_SOUND(follow_stats(&self->vmm, &stats));
	EXPECT_EQ(1, stats.fallbacks);
	EXPECT_EQ(0, stats.splits);
	EXPECT_SOUND(follow_has_soon(&self->vmm, &mapped, 1, 0));
	EXPECT_EQ(1, poll(&event, 1, PATIENCE * 1000));
	close(event.fd);
	ASSERT_SOUND(follow_stats(&self->vmm, &stats));
	EXPECT_EQ(1, stats.fallbacks);
	EXPECT_EQ(1, stats.repairs);
	EXPECT_EQ(0, stats.mismatches);
	/* It still follows. */
	ASSERT_SOUND(guest_share(&self->guest, PIECE(3) + PAGE, false));
	mapped.small = 0;
	EXPECT_SOUND(follow_has_soon(&self->vmm, &mapped, 1, 0));
}

/* The log says whose leaf it is. */
TEST_F_TIMEOUT(lost, warned, TIMEOUT)
{
	struct kernel_log log;
	struct wait wait = {};
	char text[128];

	/* Loading the module resets the limit of warnings. */
	ASSERT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, NULL));
	ASSERT_SOUND(module_require_none());
	ASSERT_SOUND(module_load("reserve_tables=0 own_domains=1"));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, NULL, SIZE));
	ASSERT_SOUND(scene_follow(&self->vmm, &self->memory));
	snprintf(text, sizeof(text),
		 "process %d (snp_lost_test), %s: leaves unmapped for lack of memory: 1;", getpid(),
		 self->vmm.devices[0].bdf);
	ASSERT_SOUND(kernel_log_start(&log));
	log.wanted = text;
	ASSERT_SOUND(fail_assign(&self->guest, PIECE(3) + PAGE));
	do {
		kernel_log_read(&log);
	} while (!log.seen && wait_more(&wait, MOMENT));
	EXPECT_EQ(1, log.seen);
	kernel_log_stop(&log);
}

/* A container that follows by default has a reserve from its first group on. */
TEST_F_TIMEOUT(lost, default_has_reserve, TIMEOUT)
{
	struct vfio_pgsize_stats stats;

	ASSERT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, NULL));
	ASSERT_SOUND(module_require("own_domains=1 default_pgsizes=4K,2M default_follow=1"));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, NULL, SIZE));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(fail_assign(&self->guest, PIECE(3) + PAGE));
	ASSERT_SOUND(follow_stats(&self->vmm, &stats));
	EXPECT_EQ(0, stats.fallbacks);
	EXPECT_EQ(1, stats.splits);
}

/* Unmapped and closed at once, whether or not the leaf is back: nothing stays pinned. */
TEST_F_TIMEOUT(lost, unmapped, TIMEOUT)
{
	for (int round = 0; round < 20; round++) {
		for (int i = 1; i < 4; i++)
			ASSERT_SOUND(fail_assign(&self->guest, PIECE(i) + PAGE));
		usleep(round * 1009);
		ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
		EXPECT_SOUND(vmm_has_nothing(&self->vmm));
		for (int i = 1; i < 4; i++)
			ASSERT_SOUND(guest_share(&self->guest, PIECE(i) + PAGE, false));
		ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	}
	ASSERT_SOUND(fail_assign(&self->guest, PIECE(1) + PAGE));
}

/* A new policy while a leaf is unmapped. */
TEST_F_TIMEOUT(lost, policy, TIMEOUT)
{
	struct mapped mapped = { AT, self->memory.va, SIZE, BIT(2) };

	ASSERT_SOUND(fail_assign(&self->guest, PIECE(2)));
	ASSERT_SOUND(vmm_policy(&self->vmm, SPLIT, UPTO_2M));
	EXPECT_SOUND(follow_has_soon(&self->vmm, &mapped, 1, 0));
	ASSERT_SOUND(fail_assign(&self->guest, PIECE(5)));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	mapped.small |= BIT(5);
	EXPECT_SOUND(follow_has_soon(&self->vmm, &mapped, 1, 0));
}

/* Pages that are shared again while their leaf is unmapped are pinned once, and come back once. */
TEST_F_TIMEOUT(lost, shared_again, TIMEOUT)
{
	const uint32_t stateful = VFIO_PGSIZE_MAP_STATEFUL | VFIO_PGSIZE_MAP_SHARED;
	struct vfio_pgsize_state pages = {
		.iova = AT_TOO + PIECE(3) + 7 * PAGE, .size = 2 * PAGE, .state = VFIO_PGSIZE_STATE_SHARED,
	};
	struct mapped mapped[] = {
		{ AT, self->memory.va, SIZE, BIT(3) },
		{ AT_TOO, self->memory.va, SIZE, BIT(3) },
	};

	ASSERT_EQ(0, dma_map(self->vmm.container, AT_TOO, self->memory.va, SIZE,
			     READ_WRITE | stateful));
	for (int round = 0; round < 10; round++) {
		uint32_t nr = 1;

		ASSERT_SOUND(fail_assign(&self->guest, PIECE(3) + PAGE));
		usleep(round * 1009);
		ASSERT_EQ(0, set_state(self->vmm.container, &pages, &nr));
		ASSERT_SOUND(follow_has_soon(&self->vmm, mapped, 2, 0));
		ASSERT_SOUND(guest_share(&self->guest, PIECE(3) + PAGE, false));
		mapped[0].small = mapped[1].small = 0;
		ASSERT_SOUND(follow_has_soon(&self->vmm, mapped, 2, 0));
		mapped[0].small = mapped[1].small = BIT(3);
	}
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT_TOO, SIZE));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

/* Calls that may wait for memory do: nothing fails, and no leaf is lost, without atomic memory. */
TEST_F_TIMEOUT(lost, not_where_one_may_sleep, TIMEOUT)
{
	struct mapped mapped = { AT, self->memory.va, SIZE, BIT(2) | BIT(3) };
	struct mapped parts[] = {
		{ AT, self->memory.va, PIECE(6), BIT(2) | BIT(3) },
		{ AT + PIECE(7), self->memory.va + PIECE(7), PIECE(1), 0 },
	};
	struct vfio_pgsize_stats before, stats;
	struct fail fail;
	int ranged, ret;
	problem wrong;

	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(3) + PAGE, false));
	ASSERT_SOUND(follow_stats(&self->vmm, &before));
	/* The leaf over a broken 2M is split, and one that crosses the end of a range. */
	ASSERT_SOUND(fail_here(&fail));
	ret = policy_set(self->vmm.container, FOLLOW, 0, 0, UPTO_2M);
	ranged = policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE | SPLIT,
			    AT + PIECE(2) + MIB(1), SIZE - PIECE(2) - MIB(1), UPTO_2M);
	ASSERT_SOUND(fail_no_more(&fail));
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, ranged);
	EXPECT_SOUND(follow_has(&self->vmm, &mapped, 1, 0));
	/* A part of the followed range is unmapped. */
	ASSERT_SOUND(fail_here(&fail));
	wrong = dma_unmap_exactly(self->vmm.container, AT + PIECE(6) + PAGE, PIECE(1) - 2 * PAGE);
	ASSERT_SOUND(fail_no_more(&fail));
	ASSERT_SOUND(wrong);
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + PIECE(6), PAGE));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + PIECE(7) - PAGE, PAGE));
	EXPECT_SOUND(follow_has(&self->vmm, parts, 2, 0));
	ASSERT_SOUND(follow_stats(&self->vmm, &stats));
	EXPECT_EQ(0, stats.fallbacks - before.fallbacks);
	EXPECT_EQ(1, stats.splits - before.splits);
}

/* The lost leaf is larger than the range that follows. */
TEST_F_TIMEOUT(lost, larger_than_the_range, TIMEOUT)
{
	struct memory memory = {};
	struct guest guest;
	struct wait wait = {};
	uint64_t covered;

	if (memory_alloc(&memory, HUGETLB_1G, GIB(1)))
		SKIP(return, "no page of 1G");
	ASSERT_SOUND(guest_start(&guest, memory.va, MIB(64)));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, ANY_SIZE));
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(8), memory.va, MIB(64), READ_WRITE));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE | FOLLOW,
				GIB(8) + PIECE(4), PIECE(2), ANY_SIZE));
	ASSERT_SOUND(fail_assign(&guest, PIECE(4)));
	do {
		struct leaves found = {};

		ASSERT_SOUND(leaves_query(&found, self->vmm.container, 0, GIB(8), MIB(64)));
		covered = 0;
		for (size_t i = 0; i < found.nr; i++)
			covered += found.runs[i].size;
		leaves_free(&found);
	} while (covered != MIB(64) && wait_more(&wait, 10 * MOMENT));
	EXPECT_EQ(MIB(64), covered);
	guest_stop(&guest);
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, GIB(8), MIB(64)));
	memory_free(&memory);
}

/* --- with a reserve ----------------------------------------------------------- */

FIXTURE(reserve) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
};

FIXTURE_SETUP(reserve)
{
	if (!fail_is_there())
		SKIP(return, "the kernel injects no faults");
	ASSERT_SOUND(fail_prepare());
	ASSERT_SOUND(module_require("reserve_tables=8"));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, NULL, SIZE));
	ASSERT_SOUND(scene_follow(&self->vmm, &self->memory));
}

FIXTURE_TEARDOWN(reserve)
{
	if (!self->memory.va)
		return;
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, NULL));
}

/* As many tables as with a full reserve: the worker has refilled it. */
static problem is_full_soon(const struct account *full)
{
	struct wait wait = {};
	struct account now;
	problem wrong;

	do {
		wrong = account_read(&now);
		if (!wrong && now.tables == full->tables)
			return NULL;
	} while (!wrong && wait_more(&wait, MOMENT));
	return wrong ? wrong : problem_is("there are %ld tables, not %ld", now.tables, full->tables);
}

/* Splits use all of it, and it is refilled. */
TEST_F_TIMEOUT(reserve, is_used_and_filled, TIMEOUT)
{
	struct vfio_pgsize_stats before;
	struct account full;

	ASSERT_SOUND(account_read(&full));
	ASSERT_SOUND(follow_stats(&self->vmm, &before));
	for (int round = 1; round <= 4; round++) {
		for (int i = 0; i < 8; i++)
			ASSERT_SOUND(fail_assign(&self->guest, PIECE(i) + PAGE));
		EXPECT_SOUND(follow_counted(&self->vmm, &before, round * 8, (round - 1) * 8));
		for (int i = 0; i < 8; i++) {
			ASSERT_SOUND(guest_share(&self->guest, PIECE(i) + PAGE, false));
			ASSERT_SOUND(guest_assign(&self->guest, PIECE(i), true));
			ASSERT_SOUND(guest_share(&self->guest, PIECE(i), true));
		}
		EXPECT_SOUND(follow_counted(&self->vmm, &before, round * 8, round * 8));
		ASSERT_SOUND(is_full_soon(&full));
	}
}

TEST_PROGRAM("Leaves that cannot be split for want of memory.")
