// SPDX-License-Identifier: GPL-2.0
/*
 * No memory in the hook, like snp_lost_test.c, while map, unmap, a policy or a joining group is
 * held at a step, or by the container's mutex: the leaf comes back all the same.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "gates.h"
#include "lost.h"

/* A thread's work, and its problem, in its own buffer. */
struct errand {
	Lost *self;
	problem (*run)(Lost *self);
	pthread_t thread;
	_Atomic(pid_t) id;
	char wrong[256];
};

static void *run_errand(void *arg)
{
	struct errand *errand = arg;
	problem wrong;

	errand->id = gettid();
	wrong = errand->run(errand->self);
	snprintf(errand->wrong, sizeof(errand->wrong), "%s", wrong ? wrong : "");
	return NULL;
}

static problem map_too(Lost *self)
{
	return vmm_map(&self->vmm, AT_TOO, self->memory.va, SIZE, READ_WRITE);
}

static problem unmap(Lost *self)
{
	return dma_unmap_exactly(self->vmm.container, AT, SIZE);
}

static problem map_again(Lost *self)
{
	return vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE);
}

/* The leaf is lost while another call is at this step. */
static problem lose_at(Lost *self, problem (*run)(Lost *self), int step)
{
	struct errand errand = { self, run };
	struct gates gates = {};
	problem wrong;

	gates_add(&gates, step, PGSIZE_STEP_SMASH_DONE);
	wrong = gates_set(&gates);
	if (wrong)
		return wrong;
	if (pthread_create(&errand.thread, NULL, run_errand, &errand))
		return problem_is("no thread");
	wrong = gates_wait(step);
	if (!wrong)
		wrong = fail_assign(&self->guest, PIECE(3) + PAGE);
	pthread_join(errand.thread, NULL);
	if (!wrong && errand.wrong[0])
		wrong = problem_is("%s", errand.wrong);
	if (!wrong)
		wrong = gates_worked();
	return wrong ? wrong : gates_set(&(struct gates){});
}

TEST_F_TIMEOUT(lost, at_each_step, 2 * TIMEOUT)
{
	struct mapped mapped = { AT, self->memory.va, SIZE, BIT(3) };

	for (int i = PGSIZE_STEP_UNMAP_BEGINS; i <= PGSIZE_STEP_UNMAP_UNWATCHED; i++) {
		ASSERT_SOUND(lose_at(self, unmap, i));
		EXPECT_SOUND(vmm_has_nothing(&self->vmm));
		EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
		ASSERT_SOUND(guest_share(&self->guest, PIECE(3) + PAGE, false));
		ASSERT_SOUND(map_again(self));
	}
	for (int i = PGSIZE_STEP_MAP_BEGINS; i <= PGSIZE_STEP_MAP_INSERTED; i++) {
		/* Present only if the hook came before. */
		if (i == PGSIZE_STEP_MAP_HIT)
			continue;
		ASSERT_SOUND(unmap(self));
		ASSERT_SOUND(lose_at(self, map_again, i));
		EXPECT_SOUND(follow_has_soon(&self->vmm, &mapped, 1, 0));
		ASSERT_SOUND(guest_share(&self->guest, PIECE(3) + PAGE, false));
	}
}

static problem follow_in_vain(Lost *self)
{
	int ret = policy_set(self->vmm.container, FOLLOW, 0, 0, UPTO_2M);

	return ret == -ENOMEM ? NULL : problem_is("SET_POLICY: %d, and not %d", ret, -ENOMEM);
}

/* SET_POLICY has made a watch ready; a smash of it now, and no memory for the rest. */
static problem fail_to_follow(Lost *self)
{
	struct errand errand = { self, follow_in_vain };
	struct gates gates = {};
	struct fail fail;
	problem wrong;

	gates_add(&gates, PGSIZE_STEP_POLICY_WATCHED, PGSIZE_STEP_SMASH_DONE);
	wrong = gates_set(&gates);
	if (wrong)
		return wrong;
	if (pthread_create(&errand.thread, NULL, run_errand, &errand))
		return problem_is("no thread");
	wrong = gates_wait(PGSIZE_STEP_POLICY_WATCHED);
	if (!wrong)
		wrong = fail_thread(&fail, errand.id);
	if (!wrong)
		wrong = fail_patient(true);
	if (!wrong)
		wrong = fail_assign(&self->guest, PAGE);
	pthread_join(errand.thread, NULL);
	close(fail.fd);
	if (!wrong && errand.wrong[0])
		wrong = problem_is("%s", errand.wrong);
	if (!wrong)
		wrong = fail_patient(false);
	if (!wrong)
		wrong = gates_worked();
	return wrong ? wrong : gates_set(&(struct gates){});
}

/* A policy that fails half way changes nothing: leaves that are lost meanwhile come back. */
TEST_F_TIMEOUT(lost, policy_fails, TIMEOUT)
{
	/* The range is split at its ends before anything fails. */
	struct mapped mapped = { AT, self->memory.va, SIZE, BIT(2) | BIT(4) };

	/* Keep the hook registered, though nothing is mapped here. */
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE | FOLLOW, AT_TOO,
				SIZE, UPTO_2M));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE, AT + MIB(5),
				MIB(4), UPTO_2M));
	/* The first time takes memory: the kernel splits its own mapping of the frame. */
	ASSERT_SOUND(guest_assign(&self->guest, PAGE, false));
	ASSERT_SOUND(guest_share(&self->guest, PAGE, false));
	ASSERT_SOUND(fail_to_follow(self));
	EXPECT_SOUND(follow_has_soon(&self->vmm, &mapped, 1, 0));
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	mapped.small |= BIT(0);
	EXPECT_SOUND(follow_has_soon(&self->vmm, &mapped, 1, 0));
	EXPECT_SOUND(follow_agrees(&self->vmm, 1));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

static problem attach(Lost *self)
{
	return vmm_attach(&self->vmm, 1);
}

/*
 * A held map has the container until the leaf is lost. The group then gets it before
 * the worker, which would map the leaf again, has a reason to run.
 */
static problem attach_to_hole(Lost *self)
{
	struct errand map = { self, map_too }, group = { self, attach };
	struct gates gates = {};
	problem wrong;

	gates_add(&gates, PGSIZE_STEP_MAP_BEGINS, PGSIZE_STEP_SMASH_DONE);
	wrong = gates_set(&gates);
	if (wrong)
		return wrong;
	if (pthread_create(&map.thread, NULL, run_errand, &map))
		return problem_is("no thread");
	wrong = gates_wait(PGSIZE_STEP_MAP_BEGINS);
	if (pthread_create(&group.thread, NULL, run_errand, &group))
		return problem_is("no thread");
	usleep(200000);
	if (!wrong)
		wrong = fail_assign(&self->guest, PIECE(3) + PAGE);
	pthread_join(map.thread, NULL);
	pthread_join(group.thread, NULL);
	if (!wrong && (map.wrong[0] || group.wrong[0]))
		return problem_is("map: %s; attach: %s", map.wrong, group.wrong);
	if (!wrong)
		wrong = gates_worked();
	return wrong ? wrong : gates_set(&(struct gates){});
}

TEST_F_TIMEOUT(lost, group_attached, TIMEOUT)
{
	struct mapped mapped[] = {
		{ AT, self->memory.va, SIZE, BIT(3) },
		{ AT_TOO, self->memory.va, SIZE, BIT(3) },
	};
	struct vfio_pgsize_stats before, stats;

	ASSERT_SOUND(follow_stats(&self->vmm, &before));
	ASSERT_SOUND(attach_to_hole(self));
	ASSERT_EQ(2, vmm_domains(&self->vmm));
	ASSERT_SOUND(follow_stats(&self->vmm, &stats));
	EXPECT_EQ(1, stats.fallbacks - before.fallbacks);
	EXPECT_EQ(1, stats.repairs - before.repairs);
	/* Both domains have the leaf. */
	EXPECT_SOUND(follow_has(&self->vmm, mapped, 2, 0));
	ASSERT_SOUND(guest_share(&self->guest, PIECE(3) + PAGE, false));
	mapped[0].small = mapped[1].small = 0;
	EXPECT_SOUND(follow_has_soon(&self->vmm, mapped, 2, 0));
}

TEST_PROGRAM("Leaves that are lost while map, unmap, a policy or a group is under way.")
