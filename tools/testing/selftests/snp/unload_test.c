// SPDX-License-Identifier: GPL-2.0
/*
 * The module goes while an ioctl is in its code that holds no reference to it: one that has
 * come too late, or one that is on its way back. Unloading waits for it.
 * The test build's gates have it linger there, awake (rust/sys/testing.h).
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "container.h"
#include "edu.h"
#include "gates.h"
#include "harness.h"
#include "kernel_log.h"
#include "module.h"
#include "text.h"
#include "units.h"

#define BUSY_PATIENCE	"/sys/module/vfio_pgsize/parameters/busy_patience"
/*
 * Milliseconds for which it lingers: what waits for nobody is done long before. On a busy host
 * it is to linger longer, up to this.
 */
#define LINGERS		3000
#define LINGERS_MOST	48000

FIXTURE(unload) {
	struct kernel_log log;
	int container, group;
	pthread_t thread;
	int ret;
	bool returned;
};

FIXTURE_VARIANT(unload) {
	int step;
	int ret;	/* what the call returns */
};

FIXTURE_VARIANT_ADD(unload, enters) { PGSIZE_STEP_CALL_ENTERS, -EINVAL };
FIXTURE_VARIANT_ADD(unload, leaves) { PGSIZE_STEP_CALL_LEAVES, 0 };

FIXTURE_SETUP(unload)
{
	char bdf[BDF_SIZE];

	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(kernel_log_start(&self->log));
	ASSERT_SOUND(edu_find(0, bdf));
	self->container = container_open();
	self->group = group_open(bdf);
	ASSERT_LE(0, self->container);
	ASSERT_LE(0, self->group);
}

FIXTURE_TEARDOWN(unload)
{
	close(self->group);
	close(self->container);
	kernel_log_read(&self->log);
	EXPECT_STREQ("", self->log.bug);
	kernel_log_stop(&self->log);
	EXPECT_SOUND(module_require(""));
}

static void *call(void *arg)
{
	FIXTURE_DATA(unload) *self = arg;
	struct vfio_pgsize_stats stats;

	self->ret = get_stats(self->container, &stats);
	__atomic_store_n(&self->returned, true, __ATOMIC_RELEASE);
	return NULL;
}

/* The call begins and lingers at the step, and the group leaves; *lingers says whether it does still. */
static problem let_linger(FIXTURE_DATA(unload) *self, int step, int ms, bool *lingers)
{
	struct gates gates = {};
	problem wrong;
	char text[16];

	if (group_join(self->group, self->container) ||
	    container_set_type(self->container, VFIO_PGSIZE_IOMMU))
		return problem_is("the group has no container");
	snprintf(text, sizeof(text), "%d", ms);
	wrong = text_write(BUSY_PATIENCE, text);
	/* For what does not come. */
	gates_add(&gates, step, PGSIZE_STEP_MERGE_BEGINS);
	if (!wrong)
		wrong = gates_set(&gates);
	self->returned = false;
	if (!wrong && pthread_create(&self->thread, NULL, call, self))
		wrong = problem_is("no thread");
	if (!wrong)
		wrong = gates_wait(step);
	if (!wrong && group_leave(self->group))
		wrong = problem_is("the group does not leave");
	*lingers = !__atomic_load_n(&self->returned, __ATOMIC_ACQUIRE);
	return wrong;
}

TEST_F_TIMEOUT(unload, waits, TIMEOUT)
{
	bool lingers = false;

	for (int ms = LINGERS; ms <= LINGERS_MOST && !lingers; ms *= 2) {
		ASSERT_SOUND(let_linger(self, variant->step, ms, &lingers));
		if (!lingers)
			pthread_join(self->thread, NULL);
	}
	ASSERT_TRUE(lingers) {
		TH_LOG("it did not linger until the module was to go");
	}
	ASSERT_EQ(0, module_unload());
	pthread_join(self->thread, NULL);
	EXPECT_EQ(variant->ret, self->ret);
}

TEST_PROGRAM("Unloads the module while a call is in its code.")
