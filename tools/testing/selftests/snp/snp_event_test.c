// SPDX-License-Identifier: GPL-2.0
/*
 * No failure is silent: the module makes up for calls that fprobe missed, counts leaves that
 * disagree with the RMP, and signals the VMM's eventfd.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "harness.h"
#include "module.h"
#include "scene.h"
#include "wait.h"

#define SIZE	MIB(16)

/* Milliseconds to wait for a signal, and for the absence of one. */
#define SOON	(PATIENCE * 1000)
#define LONG	3000

FIXTURE(event) {
	struct vmm vmm;
	struct memory memory;
	struct device device;
	struct guest guest;
	int event;
};

static int new_event(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

FIXTURE_SETUP(event)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, &self->device, SIZE));
	self->event = new_event();
	ASSERT_LE(0, self->event);
	ASSERT_EQ(0, event_set(self->vmm.container, self->event));
}

FIXTURE_TEARDOWN(event)
{
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, &self->device));
	close(self->event);
}

/* Whether it was signalled, within this many milliseconds. Resets it. */
static bool signalled(int event, int within)
{
	struct pollfd poll_event = { .fd = event, .events = POLLIN };
	uint64_t count;

	return poll(&poll_event, 1, within) == 1 &&
		read(event, &count, sizeof(count)) == sizeof(count);
}

/* --- calls that were missed -------------------------------------------------- */

TEST_F_TIMEOUT(event, missed, TIMEOUT)
{
	struct vfio_pgsize_stats stats;

	POLICY(SPLIT);
	MAP(AT);
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(3), true));
	STATS(&stats);
	EXPECT_EQ(0, stats.missed);
	EXPECT_FALSE(signalled(self->event, LONG));

	ASSERT_SOUND(guest_miss(&self->guest, true));
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(3)));
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(5, 7), false));
	EXPECT_TRUE(signalled(self->event, SOON));
	SMALL_SOON(BIT(3) | BIT(5));
	STATS(&stats);
	EXPECT_EQ(2, stats.missed);
	EXPECT_EQ(2, stats.mismatches);
	EXPECT_EQ(2, stats.splits);
	WORKS(PAGE_OF(5, 8));
	ASSERT_SOUND(guest_miss(&self->guest, false));

	/* Calls that the hook sees cause no signal. */
	while (signalled(self->event, LONG))
		;
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(6, 7), false));
	SMALL_SOON(BIT(3) | BIT(5) | BIT(6));
	EXPECT_FALSE(signalled(self->event, LONG));
	STATS(&stats);
	EXPECT_EQ(2, stats.missed);
	EXPECT_EQ(2, stats.mismatches);
}

/* A missed merge is made up for, too; without MERGE there is none. */
TEST_F_TIMEOUT(event, missed_merge, TIMEOUT)
{
	struct vfio_pgsize_stats stats;

	POLICY(FOLLOW);
	MAP(AT);
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(2, 1), false));
	SMALL_SOON(BIT(2));
	ASSERT_SOUND(guest_miss(&self->guest, true));
	ASSERT_SOUND(guest_share(&self->guest, PAGE_OF(2, 1), false));
	SMALL_SOON(0);
	EXPECT_TRUE(signalled(self->event, SOON));
	STATS(&stats);
	EXPECT_EQ(1, stats.missed);
	EXPECT_EQ(0, stats.mismatches);
	EXPECT_EQ(1, stats.merges);
}

/* A container that does not follow gets neither signals nor splits. */
TEST_F_TIMEOUT(event, missed_by_others, TIMEOUT)
{
	struct vmm other;
	struct vfio_pgsize_stats stats;
	int event = new_event();

	POLICY(0);
	MAP(AT);
	ASSERT_SOUND(vmm_open_with(&other, VFIO_PGSIZE_IOMMU, 1, 1));
	ASSERT_SOUND(vmm_policy(&other, FOLLOW, UPTO_2M));
	ASSERT_EQ(0, event_set(other.container, event));
	ASSERT_SOUND(guest_miss(&self->guest, true));
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(2, 1), false));
	EXPECT_TRUE(signalled(event, SOON));
	EXPECT_FALSE(signalled(self->event, LONG));
	SMALL_SOON(0);
	STATS(&stats);
	EXPECT_EQ(0, stats.mismatches);
	EXPECT_SOUND(vmm_close(&other));
	/* The count is not the container's own. */
	EXPECT_FALSE(signalled(event, 0));
	close(event);
}

/* --- the audit ----------------------------------------------------------------- */

TEST_F_TIMEOUT(event, audit, TIMEOUT)
{
	struct vfio_pgsize_stats stats;
	int container = self->vmm.container;

	/* Something must follow; the broken block does not. */
	ASSERT_EQ(0, policy_set(container, VFIO_PGSIZE_POLICY_RANGE | SPLIT, AT, PIECE(2),
				UPTO_2M));
	POLICY(0);
	MAP(AT);
	EXPECT_EQ(0, follow_mismatches(container, AT, SIZE));
	EXPECT_FALSE(signalled(self->event, LONG));
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(1, 1), false));
	EXPECT_EQ(0, follow_mismatches(container, AT, SIZE));
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(4, 1), false));
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(5, 511), false));
	EXPECT_FALSE(signalled(self->event, LONG));
	EXPECT_EQ(2, follow_mismatches(container, AT, SIZE));
	EXPECT_TRUE(signalled(self->event, SOON));
	STATS(&stats);
	EXPECT_EQ(2, stats.mismatches);
	EXPECT_EQ(0, stats.missed);
	SMALL_SOON(BIT(1));
}

/* --- whose eventfd --------------------------------------------------------------- */

TEST_F_TIMEOUT(event, replaced, TIMEOUT)
{
	int container = self->vmm.container, second = new_event(), spare = dup(second);

	ASSERT_EQ(0, policy_set(container, VFIO_PGSIZE_POLICY_RANGE | SPLIT, AT, PIECE(2),
				UPTO_2M));
	POLICY(0);
	MAP(AT);
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_OF(4, 1), false));
	ASSERT_EQ(0, event_set(container, second));
	/* A bad fd leaves the old one in place, even after the VMM closed it. */
	close(second);
	EXPECT_EQ(-EBADF, event_set(container, second));
	EXPECT_EQ(1, follow_mismatches(container, AT, SIZE));
	EXPECT_TRUE(signalled(spare, SOON));
	EXPECT_FALSE(signalled(self->event, 0));

	ASSERT_EQ(0, event_set(container, -1));
	EXPECT_EQ(1, follow_mismatches(container, AT, SIZE));
	EXPECT_FALSE(signalled(spare, LONG));
	EXPECT_FALSE(signalled(self->event, 0));

	ASSERT_EQ(0, event_set(container, self->event));
	EXPECT_EQ(1, follow_mismatches(container, AT, SIZE));
	EXPECT_TRUE(signalled(self->event, SOON));
	EXPECT_FALSE(signalled(spare, 0));
	close(spare);
}

TEST_PROGRAM("What goes wrong is counted, mended, and told by an eventfd.")
