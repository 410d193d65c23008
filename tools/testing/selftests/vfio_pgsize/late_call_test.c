// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO calls its backend's ioctl without a lock: the container may go, or be replaced, before the
 * call arrives. Such a call fails and leaves nothing behind, whatever comes or goes meanwhile:
 * devices, groups, the module.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "harness.h"
#include "held.h"
#include "module.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

#define AT	GIB(1)
#define SIZE	MIB(1)
/* Seconds of racing calls and ends. */
#define SECONDS	4

/* A container with one group and no open device, so that the group can leave. */
struct place {
	char bdf[BDF_SIZE];
	int container, group;
};

static problem enter(struct place *place)
{
	int ret = group_join(place->group, place->container);

	if (!ret)
		ret = container_set_type(place->container, VFIO_PGSIZE_IOMMU);
	return ret ? problem_is("a group and a type: %s", strerror(-ret)) : NULL;
}

static problem place_open(struct place *place)
{
	problem wrong = edu_find(0, place->bdf);

	if (wrong)
		return wrong;
	place->container = container_open();
	place->group = group_open(place->bdf);
	if (place->container < 0 || place->group < 0)
		return problem_is("container %d, group %d", place->container, place->group);
	return enter(place);
}

static void place_close(struct place *place)
{
	close(place->group);
	close(place->container);
}

/* --- a call whose argument comes late ---------------------------------------------- */

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
};

#define LATE(name, command_, array_)	\
	FIXTURE_VARIANT_ADD(late, name) { .command = (command_), .array = (array_) }

LATE(get_info, VFIO_IOMMU_GET_INFO, 0);
LATE(map, VFIO_IOMMU_MAP_DMA, 0);
LATE(unmap, VFIO_IOMMU_UNMAP_DMA, 0);
LATE(get_policy, VFIO_PGSIZE_GET_POLICY, 0);
LATE(set_policy, VFIO_PGSIZE_SET_POLICY, 0);
LATE(query, VFIO_PGSIZE_QUERY, 0);
LATE(get_stats, VFIO_PGSIZE_GET_STATS, 0);
LATE(set_event, VFIO_PGSIZE_SET_EVENT, 0);
LATE(set_state, VFIO_PGSIZE_SET_STATE, 0);
LATE(set_state_array, VFIO_PGSIZE_SET_STATE, 1);

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
	kernel_log_read(&self->log);
	EXPECT_STREQ("", self->log.bug);
	EXPECT_EQ(0, self->log.faults);
	kernel_log_stop(&self->log);
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
	ASSERT_SOUND(enter(&self->place));
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

/* --- racing calls and ends ----------------------------------------------------------- */

/* Two threads that map and unmap the same range. */
struct callers {
	pthread_t threads[2];
	int container;
	atomic_bool stop;
	atomic_ulong done, late, strange;
	atomic_int last_strange;
};

static void *map_and_unmap(void *arg)
{
	struct callers *callers = arg;

	while (!callers->stop) {
		uint64_t size = SIZE;
		int ret[2];

		ret[0] = dma_map(callers->container, AT, memory.va, SIZE, READ_WRITE);
		ret[1] = dma_unmap(callers->container, AT, &size, 0);
		for (int i = 0; i < 2; i++) {
			callers->done += !ret[i];
			callers->late += ret[i] == -EINVAL;
			if (ret[i] && ret[i] != -EINVAL && ret[i] != -EEXIST) {
				callers->last_strange = ret[i];
				callers->strange++;
			}
		}
	}
	return NULL;
}

static void callers_start(struct callers *callers, int container)
{
	memset(callers, 0, sizeof(*callers));
	callers->container = container;
	for (int i = 0; i < 2; i++)
		if (pthread_create(&callers->threads[i], NULL, map_and_unmap, callers))
			abort();
}

static void callers_stop(struct callers *callers)
{
	callers->stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(callers->threads[i], NULL);
}

static bool goes_on(time_t start)
{
	return time(NULL) - start < SECONDS;
}

FIXTURE(race) {
	struct account before;
	struct kernel_log log;
	struct callers callers;
	unsigned long done, late;
};

FIXTURE_SETUP(race)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&memory, ANON_4K, SIZE));
	ASSERT_SOUND(kernel_log_start(&self->log));
	ASSERT_SOUND(account_read(&self->before));
}

FIXTURE_TEARDOWN(race)
{
	EXPECT_EQ(0, self->callers.strange) {
		TH_LOG("a call says %s", strerror(-self->callers.last_strange));
	}
	EXPECT_SOUND(account_settles(&self->before));
	memory_free(&memory);
	kernel_log_read(&self->log);
	EXPECT_STREQ("", self->log.bug);
	EXPECT_EQ(0, self->log.faults);
	kernel_log_stop(&self->log);
	EXPECT_SOUND(module_require_none());
}

/* Device and group are closed during calls. */
TEST_F_TIMEOUT(race, closed, TIMEOUT)
{
	time_t start = time(NULL);
	int round;

	for (round = 0; round < 4 || goes_on(start); round++) {
		struct vmm vmm;

		ASSERT_SOUND(vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1));
		callers_start(&self->callers, vmm.container);
		usleep(round % 8 * 5000);
		vmm_detach(&vmm, 0);
		usleep(1000);
		callers_stop(&self->callers);
		EXPECT_SOUND(vmm_close(&vmm));
		self->done += self->callers.done;
		self->late += self->callers.late;
	}
	TH_LOG("%d rounds, %lu calls, %lu of them late", round, self->done, self->late);
	EXPECT_LT(0, self->done);
	EXPECT_LT(0, self->late);
}

/* The group leaves and comes back; the process that does it can be killed in between. */
static void leave_and_enter(int ready)
{
	struct callers callers;
	struct place place;

	if (place_open(&place))
		_exit(1);
	callers_start(&callers, place.container);
	if (write(ready, "r", 1) != 1)
		_exit(2);
	while (!callers.strange && !group_leave(place.group) && !enter(&place))
		;
	_exit(3);
}

TEST_F_TIMEOUT(race, entered_anew, TIMEOUT)
{
	time_t start = time(NULL);

	for (int round = 0; round < 2 || goes_on(start); round++) {
		int ready[2], status;
		struct wait wait = {};
		pid_t child;
		char byte;

		ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			leave_and_enter(ready[1]);
		close(ready[1]);
		ASSERT_EQ(1, read(ready[0], &byte, 1));
		close(ready[0]);
		sleep(1);
		ASSERT_EQ(0, kill(child, SIGKILL));
		while (waitpid(child, &status, WNOHANG) != child)
			ASSERT_TRUE(wait_more(&wait, MOMENT));
		ASSERT_TRUE(WIFSIGNALED(status)) {
			TH_LOG("round %d: it ended by itself, status %#x", round, status);
		}
		EXPECT_SOUND(account_settles(&self->before));
	}
}

/* The module is unloaded and loaded, too. */
TEST_F_TIMEOUT(race, unloaded, TIMEOUT)
{
	struct place place;
	int busy = 0;

	ASSERT_SOUND(place_open(&place));
	callers_start(&self->callers, place.container);
	for (int round = 0; round < 6; round++) {
		struct wait wait = {};
		int ret;

		usleep(round * 3000);
		ASSERT_EQ(0, group_leave(place.group));
		while ((ret = module_unload()) == -EAGAIN && wait_more(&wait, MOMENT / 10))
			busy++;
		ASSERT_EQ(0, ret);
		ASSERT_SOUND(module_load(""));
		ASSERT_SOUND(enter(&place));
	}
	callers_stop(&self->callers);
	TH_LOG("%lu calls, %lu late, %d times busy", self->callers.done, self->callers.late, busy);
	place_close(&place);
	EXPECT_LT(0, self->callers.done);
	EXPECT_LT(0, self->callers.late);
}

TEST_PROGRAM("Calls that come late, when device, group or module are gone, fail and do no harm.")
