// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO calls its backend's ioctl without a lock: the container may go, or be replaced, before the
 * call arrives. Such a call fails and leaves nothing behind. Here each call is held up while it
 * reads its argument.
 */
#include <pthread.h>
#include <sys/ioctl.h>

#include "harness.h"
#include "held.h"
#include "module.h"
#include "place.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(1)

/* Seconds that a call takes at most if it need not wait. */
#define ENOUGH	30

/* The arguments of the calls. */
static struct memory memory;
static struct vfio_pgsize_run runs[4];
static struct vfio_pgsize_state change = {
	.iova = AT,
	.size = PAGE,
	.state = VFIO_PGSIZE_STATE_SHARED,
};

union argument {
	struct vfio_iommu_type1_info info;
	struct vfio_iommu_type1_dma_map map;
	struct vfio_iommu_type1_dma_unmap unmap;
	struct vfio_pgsize_policy policy;
	struct vfio_pgsize_query query;
	struct vfio_pgsize_stats stats;
	struct vfio_pgsize_event event;
	struct vfio_pgsize_set_state state;
	struct vfio_pgsize_state change;
};

static union argument argument_of(unsigned long command)
{
	union argument argument = { .info.argsz = sizeof(argument) };

	switch (command) {
	case VFIO_IOMMU_MAP_DMA:
		argument.map.flags = READ_WRITE;
		argument.map.vaddr = (uintptr_t)memory.va;
		argument.map.iova = AT;
		argument.map.size = SIZE;
		break;
	case VFIO_IOMMU_UNMAP_DMA:
		argument.unmap.iova = AT;
		argument.unmap.size = SIZE;
		break;
	case VFIO_PGSIZE_SET_POLICY:
		argument.policy.pgsizes = ONLY_4K;
		break;
	case VFIO_PGSIZE_QUERY:
		argument.query.iova = AT;
		argument.query.size = SIZE;
		argument.query.nr = ARRAY_SIZE(runs);
		argument.query.runs = (uintptr_t)runs;
		break;
	case VFIO_PGSIZE_SET_EVENT:
		argument.event.fd = -1;
		break;
	case VFIO_PGSIZE_SET_STATE:
		argument.state.nr = 1;
		argument.state.changes = (uintptr_t)&change;
		break;
	}
	return argument;
}

struct call {
	pthread_t thread;
	int container;
	unsigned long command;
	void *argument;
	int result;
};

static void *do_call(void *arg)
{
	struct call *call = arg;

	call->result = ioctl(call->container, call->command, call->argument) ? -errno : 0;
	return NULL;
}

FIXTURE(late) {
	struct place place;
	struct held held;
	struct account before;
	struct kernel_log log;
	union argument argument;
	struct vfio_pgsize_set_state set;
	struct call call;
};

FIXTURE_VARIANT(late) {
	unsigned long command;
	int array;	/* the late part is what the argument points to */
	int answers;	/* the call writes to that part */
};

#define LATE(name, command_, array_, answers_)	\
	FIXTURE_VARIANT_ADD(late, name) {	\
		.command = (command_), .array = (array_), .answers = (answers_),	\
	}

LATE(get_info, VFIO_IOMMU_GET_INFO, 0, 1);
LATE(map, VFIO_IOMMU_MAP_DMA, 0, 0);
LATE(unmap, VFIO_IOMMU_UNMAP_DMA, 0, 1);
LATE(get_policy, VFIO_PGSIZE_GET_POLICY, 0, 1);
LATE(set_policy, VFIO_PGSIZE_SET_POLICY, 0, 0);
LATE(query, VFIO_PGSIZE_QUERY, 0, 1);
LATE(get_stats, VFIO_PGSIZE_GET_STATS, 0, 1);
LATE(set_event, VFIO_PGSIZE_SET_EVENT, 0, 0);
LATE(set_state, VFIO_PGSIZE_SET_STATE, 0, 1);
LATE(set_state_array, VFIO_PGSIZE_SET_STATE, 1, 0);

/* A call in progress: it has found its container, and waits for the page. */
FIXTURE_SETUP(late)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&memory, ANON_4K, SIZE));
	ASSERT_SOUND(kernel_log_start(&self->log));
	ASSERT_SOUND(account_read(&self->before));
	ASSERT_SOUND(place_open(&self->place));
	ASSERT_SOUND(held_open(&self->held));
	if (variant->command != VFIO_IOMMU_MAP_DMA)
		ASSERT_EQ(0, dma_map(self->place.container, AT, memory.va, SIZE,
				     READ_WRITE | VFIO_PGSIZE_MAP_STATEFUL |
				     VFIO_PGSIZE_MAP_SHARED));

	self->argument = argument_of(variant->command);
	self->call.container = self->place.container;
	self->call.command = variant->command;
	self->call.argument = self->held.page;
	if (variant->array) {
		self->set = self->argument.state;
		self->set.argsz = sizeof(self->set);
		self->set.changes = (uintptr_t)self->held.page;
		self->argument.change = change;
		self->call.argument = &self->set;
	}
	ASSERT_EQ(0, pthread_create(&self->call.thread, NULL, do_call, &self->call));
	ASSERT_SOUND(held_is_wanted(&self->held));
}

FIXTURE_TEARDOWN(late)
{
	place_close(&self->place);
	held_close(&self->held);
	EXPECT_SOUND(account_settles(&self->before));
	memory_free(&memory);
	EXPECT_SOUND(kernel_log_end(&self->log));
	EXPECT_SOUND(module_require_none());
}

#define COMES(self) do {								\
	ASSERT_SOUND(held_comes(&(self)->held, &(self)->argument, sizeof((self)->argument)));	\
	ASSERT_EQ(0, pthread_join((self)->call.thread, NULL));				\
} while (0)

/* The last group leaves. The call is still in the module, which stays loaded. */
TEST_F_TIMEOUT(late, group_is_gone, TIMEOUT)
{
	ASSERT_EQ(0, group_leave(self->place.group));
	EXPECT_SOUND(account_rose(&self->before, 0, 0));
	EXPECT_EQ(-EAGAIN, module_unload());
	COMES(self);
	EXPECT_EQ(-EINVAL, self->call.result);
	EXPECT_SOUND(account_rose(&self->before, 0, 0));
	EXPECT_EQ(0, module_unload());
}

/* The group has come back. For VFIO it is the same container, for the module another one. */
TEST_F_TIMEOUT(late, group_is_back, TIMEOUT)
{
	struct vfio_pgsize_policy policy;

	ASSERT_EQ(0, group_leave(self->place.group));
	ASSERT_SOUND(place_enter(&self->place));
	ASSERT_EQ(0, dma_map(self->place.container, 2 * AT, memory.va, SIZE, READ_WRITE));
	COMES(self);
	EXPECT_EQ(-EINVAL, self->call.result);
	EXPECT_SOUND(account_rose(&self->before, SIZE / PAGE, SIZE / PAGE));
	ASSERT_EQ(0, policy_get(self->place.container, &policy, 0, 0));
	EXPECT_EQ(VFIO_PGSIZE_ALL, policy.pgsizes);
	EXPECT_SOUND(dma_unmap_exactly(self->place.container, 2 * AT, SIZE));
	ASSERT_EQ(0, group_leave(self->place.group));
}

/* Nothing has happened meanwhile: the call succeeds as usual. */
TEST_F_TIMEOUT(late, nothing_is_gone, TIMEOUT)
{
	COMES(self);
	EXPECT_EQ(0, self->call.result);
	ASSERT_EQ(0, group_leave(self->place.group));
}

static bool ends(struct call *call)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += ENOUGH;
	return !pthread_timedjoin_np(call->thread, NULL, &end);
}

/* The answer cannot be written yet: nobody waits for the container meanwhile. */
TEST_F_TIMEOUT(late, answer_waits, TIMEOUT)
{
	union argument argument = argument_of(VFIO_PGSIZE_GET_POLICY);
	struct call other = {
		.container = self->place.container,
		.command = VFIO_PGSIZE_GET_POLICY,
		.argument = &argument,
	};
	bool ended;

	if (!variant->answers) {
		COMES(self);
		SKIP(return, "the call has no answer");
	}
	ASSERT_SOUND(held_comes_unwritable(&self->held, &self->argument, sizeof(self->argument)));
	ASSERT_SOUND(held_is_wanted(&self->held));
	ASSERT_EQ(0, pthread_create(&other.thread, NULL, do_call, &other));
	ended = ends(&other);
	EXPECT_TRUE(ended) {
		TH_LOG("another call waits for the answer of this one");
	}
	ASSERT_SOUND(held_is_released(&self->held));
	ASSERT_EQ(0, pthread_join(self->call.thread, NULL));
	if (!ended)
		ASSERT_EQ(0, pthread_join(other.thread, NULL));
	EXPECT_EQ(0, other.result);
	EXPECT_EQ(0, self->call.result);
	ASSERT_EQ(0, group_leave(self->place.group));
}

TEST_PROGRAM("Calls that come late, when the group is gone, fail and do no harm.")
