// SPDX-License-Identifier: GPL-2.0
/*
 * Two threads map and unmap while devices, groups and the module come and go: like
 * late_call_test.c, without a forced order. Calls that come too late fail and leave nothing.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "harness.h"
#include "kill.h"
#include "module.h"
#include "place.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

#define AT	GIB(1)
#define SIZE	MIB(1)
/* Seconds of racing calls and ends. */
#define SECONDS	4

static struct memory memory;

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
	EXPECT_SOUND(kernel_log_end(&self->log));
	EXPECT_SOUND(module_require_none());
}

/* Device and group are closed during calls. */
TEST_F_TIMEOUT(race, closed, TIMEOUT)
{
	time_t start = time(NULL);
	struct wait wait = {};
	int round;

	for (round = 0; round < 4 || goes_on(start) ||
	     ((!self->done || !self->late) && wait_more(&wait, 0)); round++) {
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
static void leave_and_enter(void *arg, int ready)
{
	struct callers callers;
	struct place place;

	if (place_open(&place))
		_exit(1);
	callers_start(&callers, place.container);
	if (!kill_when_ready(ready))
		_exit(2);
	while (!callers.strange && !group_leave(place.group) && !place_enter(&place))
		;
	_exit(3);
}

TEST_F_TIMEOUT(race, entered_anew, TIMEOUT)
{
	time_t start = time(NULL);

	for (int round = 0; round < 2 || goes_on(start); round++) {
		ASSERT_SOUND(kill_at_work(leave_and_enter, NULL, 1000000));
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
		ASSERT_SOUND(place_enter(&place));
	}
	callers_stop(&self->callers);
	TH_LOG("%lu calls, %lu late, %d times busy", self->callers.done, self->callers.late, busy);
	place_close(&place);
	EXPECT_LT(0, self->callers.done);
	EXPECT_LT(0, self->callers.late);
}

TEST_PROGRAM("Calls race with the ends of devices, groups and the module, and do no harm.")
