// SPDX-License-Identifier: GPL-2.0
/*
 * The worker that merges a block that became whole page by page, against an assignment, by
 * gates: the worker reads the RMP while the call is in transit and has not taken effect, and
 * acts after the call.
 */
#include <unistd.h>

#include "gates.h"
#include "harness.h"
#include "module.h"
#include "scene.h"
#include "wait.h"

#define SIZE	MIB(2)

FIXTURE(merge) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
};

FIXTURE_SETUP(merge)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, NULL, SIZE));
	ASSERT_SOUND(scene_follow(&self->vmm, &self->memory));
}

FIXTURE_TEARDOWN(merge)
{
	EXPECT_SOUND(gates_set(&(struct gates){}));
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, NULL));
}

TEST_F_TIMEOUT(merge, looks_during_a_call, TIMEOUT)
{
	struct mapped mapped = { AT, self->memory.va, SIZE, 1 };
	bool in_order = false;

	for (int try = 0; try < GATES_TRIES && !in_order; try++) {
		struct gates gates = {};
		struct wait wait = {};
		struct seen seen;

		/* Small, and whole again: the worker will merge it. */
		ASSERT_SOUND(guest_assign(&self->guest, PAGE, false));
		gates_add(&gates, PGSIZE_STEP_MERGE_BEGINS, PGSIZE_STEP_SMASH_NOTED);
		gates_add(&gates, PGSIZE_STEP_SMASH_NOTED, PGSIZE_STEP_MERGE_LOOKED);
		gates_add(&gates, PGSIZE_STEP_MERGE_LOOKED, PGSIZE_STEP_SMASH_DONE);
		ASSERT_SOUND(gates_set(&gates));
		ASSERT_SOUND(guest_share(&self->guest, PAGE, false));
		ASSERT_SOUND(gates_wait(PGSIZE_STEP_MERGE_BEGINS));
		ASSERT_SOUND(guest_assign(&self->guest, 7 * PAGE, false));
		do {
			ASSERT_SOUND(gates_see(&seen));
		} while (!seen.passed[PGSIZE_STEP_MERGE_LOOKED] && !seen.given_up &&
			 wait_more(&wait, MOMENT));
		/* The worker's deferred work is done, too. */
		sleep(2);
		in_order = !seen.given_up && seen.passed[PGSIZE_STEP_MERGE_LOOKED];
		EXPECT_SOUND(follow_has(&self->vmm, &mapped, 1, 0));
		ASSERT_SOUND(gates_set(&(struct gates){}));
		ASSERT_SOUND(guest_share(&self->guest, 7 * PAGE, false));
		mapped.small = 0;
		EXPECT_SOUND(follow_has_soon(&self->vmm, &mapped, 1, 0));
		mapped.small = 1;
	}
	EXPECT_TRUE(in_order);
}

/* While the worker is at one container, another is set up and closed. */
TEST_F_TIMEOUT(merge, others_do_not_wait, TIMEOUT)
{
	int container = container_open(), group;
	struct gates gates = {};
	char bdf[BDF_SIZE];
	struct seen seen;

	ASSERT_SOUND(edu_find(1, bdf));
	group = group_open(bdf);
	ASSERT_LE(0, container);
	ASSERT_LE(0, group);
	ASSERT_EQ(0, group_join(group, container));
	ASSERT_SOUND(guest_assign(&self->guest, PAGE, false));
	/* Nobody maps: the worker waits there until there are no gates. */
	gates_add(&gates, PGSIZE_STEP_MERGE_BEGINS, PGSIZE_STEP_MAP_BEGINS);
	ASSERT_SOUND(gates_set(&gates));
	ASSERT_SOUND(guest_share(&self->guest, PAGE, false));
	ASSERT_SOUND(gates_wait(PGSIZE_STEP_MERGE_BEGINS));
	ASSERT_EQ(0, container_set_type(container, VFIO_PGSIZE_IOMMU));
	ASSERT_EQ(0, group_leave(group));
	ASSERT_SOUND(gates_see(&seen));
	EXPECT_EQ(0, seen.passed[PGSIZE_STEP_MERGE_BEGINS]);
	ASSERT_SOUND(gates_set(&(struct gates){}));
	close(group);
	close(container);
}

TEST_PROGRAM("The worker that merges against an assignment, by force, and others meanwhile.")
