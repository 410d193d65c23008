// SPDX-License-Identifier: GPL-2.0
/*
 * Calls on a container while one of them waits for memory. That one holds no lock: other calls
 * proceed; calls for the same pages wait for it and can be killed. The test build's gates make
 * it wait (rust/sys/testing.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "gates.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

/* The range of the waiting call, and a range that nobody waits for. */
#define AT		GIB(4)
#define ELSEWHERE	GIB(8)
#define SIZE		MIB(4)
#define STATEFUL	VFIO_PGSIZE_MAP_STATEFUL
#define SHARED		VFIO_PGSIZE_STATE_SHARED
#define PRIVATE		VFIO_PGSIZE_STATE_PRIVATE
#define ALL		VFIO_DMA_UNMAP_FLAG_ALL

FIXTURE(concurrent) {
	struct vmm vmm;
	struct memory memory;
	struct memory other;
	struct call slow;	/* the call at AT that is held */
};

FIXTURE_VARIANT(concurrent) {
	bool states;		/* SET_STATE makes the pages at AT shared */
};

FIXTURE_VARIANT_ADD(concurrent, map) { .states = false };
FIXTURE_VARIANT_ADD(concurrent, states) { .states = true };

typedef FIXTURE_DATA(concurrent) Concurrent;

FIXTURE_SETUP(concurrent)
{
	ASSERT_SOUND(module_require("own_domains=1"));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(memory_alloc(&self->other, ANON_4K, MIB(1)));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, ELSEWHERE, self->other.va, MIB(1), READ_WRITE));
	if (variant->states)
		ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE | STATEFUL));
}

FIXTURE_TEARDOWN(concurrent)
{
	EXPECT_SOUND(gates_set(&(struct gates){}));
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	memory_free(&self->other);
	huge_pages_release();
	EXPECT_SOUND(module_require(""));
}

/* The call at AT begins, and waits until an unmap. */
static problem hold(Concurrent *self, bool states, const void *va, uint32_t flags)
{
	self->slow = (struct call){
		.container = self->vmm.container, .what = states ? STATE : MAP, .iova = AT,
		.va = va, .size = SIZE, .flags = states ? SHARED : flags,
	};
	return call_hold(&self->slow);
}

#define HOLD_WITH(flags) ASSERT_SOUND(hold(self, variant->states, self->memory.va, flags))
#define HOLD() HOLD_WITH(READ_WRITE)

/* Others do not wait. */
TEST_F_TIMEOUT(concurrent, others_go_on, TIMEOUT)
{
	int container = self->vmm.container, policy, file;
	struct vfio_pgsize_stats stats;
	char text[4096] = "";
	struct info info;

	HOLD();
	ASSERT_SOUND(container_info(container, &info));
	/* GET_INFO counts the mapping in progress. */
	EXPECT_EQ(65535 - 2, info.dma_avail);
	EXPECT_EQ(0, get_stats(container, &stats));
	EXPECT_EQ(0, stats.shared);
	EXPECT_EQ(variant->states ? SIZE : 0, stats.stateful);
	EXPECT_EQ(-EEXIST, dma_map(container, AT, self->other.va, PAGE, READ_WRITE));
	EXPECT_EQ(-EEXIST, dma_map(container, AT + SIZE - PAGE, self->other.va, 2 * PAGE, READ_WRITE));
	EXPECT_EQ(-ENOENT, change_state(container, ELSEWHERE, PAGE, SHARED));
	EXPECT_EQ(0, dma_map(container, AT + SIZE, self->other.va, MIB(1), READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + SIZE, self->other.va, MIB(1)));
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, AT));
	EXPECT_EQ(0, dma_map(container, GIB(16), self->other.va, MIB(1), READ_WRITE | STATEFUL));
	EXPECT_EQ(0, change_state(container, GIB(16) + KIB(16), KIB(32), SHARED));
	EXPECT_EQ(0, change_state(container, GIB(16) + KIB(32), KIB(16), PRIVATE));
	EXPECT_EQ(0, change_state(container, GIB(16), MIB(1), PRIVATE));
	/* The policy applies to later maps. */
	policy = policy_of_all(container, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K);
	EXPECT_EQ(0, policy);
	/* The file of all containers: there is only this one. */
	file = open("/sys/kernel/debug/vfio_pgsize", O_RDONLY | O_DIRECTORY);
	EXPECT_LE(0, file);
	close(file);
	file = system("cat /sys/kernel/debug/vfio_pgsize/*/leaves > /tmp/leaves");
	EXPECT_EQ(0, file);
	file = open("/tmp/leaves", O_RDONLY);
	EXPECT_LT(0, read(file, text, sizeof(text) - 1));
	close(file);
	EXPECT_EQ(NULL, strstr(text, "busy"));
	EXPECT_NE(NULL, strstr(text, "0x1000 "));

	EXPECT_SOUND(call_let_go(&self->slow));
	EXPECT_EQ(0, self->slow.ret);
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	EXPECT_SOUND(dma_unmap_exactly(container, GIB(16), MIB(1)));
	EXPECT_SOUND(dma_unmap_exactly(container, AT + SIZE, MIB(1)));
	EXPECT_SOUND(dma_unmap_exactly(container, ELSEWHERE, MIB(1)));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ONLY_4K, READ_WRITE));
	EXPECT_SOUND(account_rose(&self->vmm.before, SIZE / PAGE, SIZE / PAGE));
}

/* What is to be unmapped is so when it is there. */
TEST_F_TIMEOUT(concurrent, unmap_waits, TIMEOUT)
{
	static const struct {
		uint32_t flags;
		uint64_t size;
		uint64_t bytes;
	} cases[] = {
		{ 0, SIZE, SIZE }, { 0, GIB(1), SIZE }, { ALL, 0, SIZE + MIB(1) }, { 0, MIB(1), MIB(1) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const bool all = cases[i].flags & ALL;
		struct call unmap = {
			.container = self->vmm.container, .what = UNMAP,
			.iova = all ? 0 : AT, .size = cases[i].size, .flags = cases[i].flags,
		};
		uint64_t size = 0;

		HOLD();
		ASSERT_SOUND(call_begin(&unmap));
		usleep(100000);
		EXPECT_FALSE(call_has_returned(&unmap));
		ASSERT_SOUND(call_let_go(&self->slow));
		EXPECT_EQ(0, self->slow.ret);
		pthread_join(unmap.thread, NULL);
		EXPECT_EQ(0, unmap.ret);
		EXPECT_EQ(cases[i].bytes, unmap.size);
		if (cases[i].bytes == MIB(1)) {
			/* All but a part. */
			EXPECT_SOUND(account_rose(&self->vmm.before, SIZE / PAGE, SIZE / PAGE));
		}
		ASSERT_EQ(0, dma_unmap(self->vmm.container, 0, &size, ALL));
		EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
		EXPECT_SOUND(vmm_has_nothing(&self->vmm));
		ASSERT_SOUND(vmm_map(&self->vmm, ELSEWHERE, self->other.va, MIB(1), READ_WRITE));
		if (variant->states)
			ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE,
					     READ_WRITE | STATEFUL));
	}
}

/* A mapping that fails never existed. */
TEST_F_TIMEOUT(concurrent, unmap_of_what_fails, TIMEOUT)
{
	struct call unmap = {
		.container = self->vmm.container, .what = UNMAP, .iova = AT, .size = SIZE,
	};

	ASSERT_EQ(0, munmap(self->memory.va + MIB(2), MIB(2)));
	HOLD();
	ASSERT_SOUND(call_begin(&unmap));
	usleep(100000);
	EXPECT_FALSE(call_has_returned(&unmap));
	ASSERT_SOUND(call_let_go(&self->slow));
	EXPECT_EQ(-EFAULT, self->slow.ret);
	pthread_join(unmap.thread, NULL);
	EXPECT_EQ(0, unmap.ret);
	EXPECT_EQ(variant->states ? SIZE : 0, unmap.size);
	EXPECT_SOUND(account_rose(&self->vmm.before, MIB(1) / PAGE, MIB(1) / PAGE));
}

/* Pages become private after they have become shared. */
TEST_F_TIMEOUT(concurrent, states_wait, TIMEOUT)
{
	struct call take = {
		.container = self->vmm.container, .what = STATE, .iova = AT, .size = MIB(3),
		.flags = PRIVATE,
	};
	struct call again = {
		.container = self->vmm.container, .what = STATE, .iova = AT, .size = SIZE,
		.flags = SHARED,
	};

	/* All of it shared from the start, or by a change. */
	HOLD_WITH(READ_WRITE | STATEFUL | VFIO_PGSIZE_MAP_SHARED);
	ASSERT_SOUND(call_begin(&take));
	usleep(100000);
	ASSERT_SOUND(call_begin(&again));
	usleep(100000);
	EXPECT_FALSE(call_has_returned(&take));
	EXPECT_FALSE(call_has_returned(&again));
	ASSERT_SOUND(call_let_go(&self->slow));
	pthread_join(take.thread, NULL);
	pthread_join(again.thread, NULL);
	EXPECT_EQ(0, self->slow.ret);
	EXPECT_EQ(0, take.ret);
	EXPECT_EQ(0, again.ret);
	EXPECT_SOUND(account_rose(&self->vmm.before, (SIZE + MIB(1)) / PAGE, (SIZE + MIB(1)) / PAGE));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, ELSEWHERE, MIB(1)));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, UPTO_2M, READ_WRITE));
}

/* A waiting thread can be killed, and leaves nothing behind. */
TEST_F_TIMEOUT(concurrent, killed_while_waiting, TIMEOUT)
{
	int status;
	pid_t pid;

	HOLD();
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		uint64_t size = SIZE;

		dma_unmap(self->vmm.container, AT, &size, 0);
		_exit(0);
	}
	usleep(200000);
	ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	ASSERT_SOUND(call_let_go(&self->slow));
	EXPECT_EQ(0, self->slow.ret);
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	/* Nor does its claim block others. */
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(account_rose(&self->vmm.before, MIB(1) / PAGE, MIB(1) / PAGE));
}

/* A group that joins meanwhile, with its own domain, gets all. */
TEST_F_TIMEOUT(concurrent, attach, TIMEOUT)
{
	HOLD();
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_EQ(2, vmm_domains(&self->vmm));
	ASSERT_SOUND(call_let_go(&self->slow));
	EXPECT_EQ(0, self->slow.ret);
	for (int i = 0; i < 2; i++) {
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, i, AT, self->memory.va, SIZE));
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, i, ELSEWHERE, self->other.va, MIB(1)));
	}
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, ELSEWHERE, MIB(1)));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, UPTO_2M, READ_WRITE));
	EXPECT_SOUND(account_rose(&self->vmm.before, SIZE / PAGE, SIZE / PAGE));
}

/* A group that leaves meanwhile has none of it. */
TEST_F_TIMEOUT(concurrent, detach, TIMEOUT)
{
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	HOLD();
	vmm_detach(&self->vmm, 1);
	EXPECT_EQ(1, vmm_domains(&self->vmm));
	ASSERT_SOUND(call_let_go(&self->slow));
	EXPECT_EQ(0, self->slow.ret);
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(account_rose(&self->vmm.before, MIB(1) / PAGE, MIB(1) / PAGE));
}

/* The last group removes all mappings: the call finds its mapping gone, and pins nothing. */
TEST_F_TIMEOUT(concurrent, last_group_leaves, TIMEOUT)
{
	HOLD();
	/* Unmaps everything, which is what the call waits for. */
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(call_end(&self->slow));
	EXPECT_TRUE(self->slow.ret == -EINVAL || (variant->states && self->slow.ret == -ENOENT));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

TEST_PROGRAM("Holds a call that waits for memory, and makes others meanwhile.")
