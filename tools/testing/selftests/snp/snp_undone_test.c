// SPDX-License-Identifier: GPL-2.0
/*
 * 4K leaves without need: a call was in transit on another 2M, which the module cannot
 * distinguish from this one, or a call was refused. They become 2M again soon, with or without
 * ON_WHOLE_MERGE; broken blocks do not.
 */
#include <stdio.h>

#include "follow.h"
#include "gates.h"
#include "guest.h"
#include "harness.h"
#include "module.h"
#include "units.h"

#define AT	GIB(4)
#define PIECE(i) ((i) * MIB(2))

/* The number of buckets for calls in transit, by block number: blocks that differ by it are alike. */
#define BUCKETS	256
#define PIECES	(BUCKETS + 1)

/* The worker checks everything for the last time so many seconds after the hook was registered. */
#define LOOKS	10

FIXTURE(undone) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
	uint64_t one, other;		/* GPAs of two blocks in one bucket; the first one is mapped */
	struct mapped mapped;
	struct vfio_pgsize_stats before;
	problem wrong;			/* of the mapper; its text is in ... */
	char text[256];
};

FIXTURE_VARIANT(undone) {
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(undone, merging) { FOLLOW };
FIXTURE_VARIANT_ADD(undone, splitting) { SPLIT };

typedef FIXTURE_DATA(undone) Undone;

static problem find_alike(Undone *self)
{
	uint64_t phys, seen[BUCKETS] = {};

	for (uint64_t i = 0; i < PIECES; i++) {
		problem wrong = memory_phys(self->memory.va + PIECE(i), 1, &phys);
		uint64_t *before = &seen[phys / MIB(2) % BUCKETS];

		if (wrong)
			return wrong;
		if (*before) {
			self->one = PIECE(*before - 1);
			self->other = PIECE(i);
			return NULL;
		}
		*before = i + 1;
	}
	return problem_is("of %d pages no two are alike", PIECES);
}

FIXTURE_SETUP(undone)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, PIECE(PIECES)));
	ASSERT_SOUND(find_alike(self));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, self->memory.size));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	self->mapped = (struct mapped){ AT, self->memory.va + self->one, MIB(2) };
}

FIXTURE_TEARDOWN(undone)
{
	EXPECT_SOUND(gates_set(&(struct gates){}));
	EXPECT_SOUND(vmm_close(&self->vmm));
	guest_stop(&self->guest);
	memory_free(&self->memory);
	huge_pages_release();
}

static problem map(Undone *self)
{
	return vmm_map(&self->vmm, AT, self->mapped.va, MIB(2), READ_WRITE);
}

static void *map_thread(void *arg)
{
	Undone *self = arg;
	problem wrong = map(self);

	snprintf(self->text, sizeof(self->text), "%s", wrong ? wrong : "");
	self->wrong = wrong ? self->text : NULL;
	return NULL;
}

static const uint32_t *flags_of_thread;

static void *policy_thread(void *arg)
{
	Undone *self = arg;
	problem wrong = vmm_policy(&self->vmm, *flags_of_thread, UPTO_2M);

	snprintf(self->text, sizeof(self->text), "%s", wrong ? wrong : "");
	self->wrong = wrong ? self->text : NULL;
	return NULL;
}

/* `run` is held at `step` until a call on the other 2M has begun, which ends when it is at `end`. */
static problem while_under_way(Undone *self, void *(*run)(void *), int step, int end,
			       struct seen *seen)
{
	struct gates gates = {};
	pthread_t thread;
	problem wrong;

	gates_add(&gates, step, PGSIZE_STEP_SMASH_NOTED);
	gates_add(&gates, PGSIZE_STEP_SMASH_CHANGED, end);
	wrong = gates_set(&gates);
	if (wrong)
		return wrong;
	if (pthread_create(&thread, NULL, run, self))
		return problem_is("no thread");
	wrong = gates_wait(step);
	if (!wrong)
		wrong = guest_assign(&self->guest, self->other + PAGE, false);
	pthread_join(thread, NULL);
	if (!wrong)
		wrong = self->wrong;
	if (!wrong)
		wrong = gates_see(seen);
	if (!wrong)
		wrong = gates_set(&(struct gates){});
	return wrong ? wrong : guest_share(&self->guest, self->other + PAGE, false);
}

/* It was small, and is merged soon. */
static problem is_merged_soon(Undone *self, uint64_t splits)
{
	problem wrong = follow_has_soon(&self->vmm, &self->mapped, 1, 0);

	return wrong ? wrong : follow_counted(&self->vmm, &self->before, splits, 1);
}

TEST_F_TIMEOUT(undone, mapped_meanwhile, TIMEOUT)
{
	struct seen seen = { .given_up = 1 };

	ASSERT_SOUND(vmm_policy(&self->vmm, variant->flags, UPTO_2M));
	for (int i = 0; i < GATES_TRIES && seen.given_up; i++) {
		if (i)
			ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, MIB(2)));
		ASSERT_SOUND(follow_stats(&self->vmm, &self->before));
		ASSERT_SOUND(while_under_way(self, map_thread, PGSIZE_STEP_MAP_BEGINS,
					     PGSIZE_STEP_MAP_MAPPED, &seen));
	}
	ASSERT_EQ(0, seen.given_up);
	EXPECT_SOUND(is_merged_soon(self, 0));
}

TEST_F_TIMEOUT(undone, policy_set_meanwhile, TIMEOUT)
{
	struct vfio_pgsize_stats now = {};
	struct seen seen;

	flags_of_thread = &variant->flags;
	ASSERT_SOUND(map(self));
	/* The call waits in vain: it is in transit until it gives up. */
	for (int i = 0; i < GATES_TRIES && now.splits == self->before.splits; i++) {
		ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
		ASSERT_SOUND(follow_stats(&self->vmm, &self->before));
		ASSERT_SOUND(while_under_way(self, policy_thread, PGSIZE_STEP_POLICY_WATCHED,
					     PGSIZE_STEP_UNMAP_BEGINS, &seen));
		ASSERT_SOUND(follow_stats(&self->vmm, &now));
	}
	EXPECT_SOUND(is_merged_soon(self, 1));
}

TEST_F_TIMEOUT(undone, refused, TIMEOUT)
{
	ASSERT_SOUND(vmm_policy(&self->vmm, variant->flags, UPTO_2M));
	ASSERT_SOUND(map(self));
	ASSERT_SOUND(follow_stats(&self->vmm, &self->before));
	/* It is shared: there is no 2M entry. */
	ASSERT_TRUE(guest_smash(&self->guest, self->one));
	EXPECT_SOUND(is_merged_soon(self, 1));
	/* Broken, it stays small. */
	ASSERT_SOUND(guest_assign(&self->guest, self->one + PAGE, false));
	ASSERT_TRUE(guest_smash(&self->guest, self->one));
	sleep(3);
	EXPECT_SOUND(follow_counted(&self->vmm, &self->before, 2, 1));
	self->mapped.small = 1;
	EXPECT_SOUND(follow_has(&self->vmm, &self->mapped, 1, 0));
	ASSERT_SOUND(guest_share(&self->guest, self->one + PAGE, false));
}

/*
 * One and ten seconds after the hook was registered the worker checks everything, and also merges
 * blocks that are small for no reason (rust/rmp/hook.c), which would hide a failure. The hook
 * stays registered while this container follows.
 */
static problem let_looks_pass(struct vmm *other)
{
	problem wrong = module_require("");

	if (!wrong)
		wrong = vmm_open_with(other, VFIO_PGSIZE_IOMMU, 1, 1);
	if (!wrong)
		wrong = vmm_policy(other, FOLLOW, UPTO_2M);
	if (!wrong)
		sleep(LOOKS + 2);
	return wrong;
}

int main(int argc, char **argv)
{
	bool help = argc == 2 && argv[1][0] == '-' && strchr("-h", argv[1][1]);
	struct vmm other;
	problem wrong = help ? NULL : let_looks_pass(&other);
	int ret;

	if (wrong)
		ksft_exit_fail_msg("%s\n", wrong);
	ret = test_program(argc, argv, "Leaves that were split for a call that broke nothing.");
	if (!help)
		vmm_close(&other);
	return ret;
}
