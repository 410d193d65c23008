// SPDX-License-Identifier: GPL-2.0
/*
 * The module goes while an ioctl is in its code that holds no reference to it: one that has
 * come too late, or one that is on its way back. Unloading waits for it.
 * The test build's gates have it linger there, awake (rust/sys/testing.h).
 */
#include <errno.h>
#include <pthread.h>
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
/* Milliseconds for which it lingers: what waits for nobody is done long before. */
#define LINGERS		"3000"

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
	ASSERT_EQ(0, group_join(self->group, self->container));
	ASSERT_EQ(0, container_set_type(self->container, VFIO_PGSIZE_IOMMU));
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

TEST_F_TIMEOUT(unload, waits, TIMEOUT)
{
	struct gates gates = {};

	/* For what does not come. */
	gates_add(&gates, variant->step, PGSIZE_STEP_MERGE_BEGINS);
	ASSERT_SOUND(text_write(BUSY_PATIENCE, LINGERS));
	ASSERT_SOUND(gates_set(&gates));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, call, self));
	ASSERT_SOUND(gates_wait(variant->step));
	ASSERT_EQ(0, group_leave(self->group));
	EXPECT_FALSE(__atomic_load_n(&self->returned, __ATOMIC_ACQUIRE)) {
		TH_LOG("it did not linger until the module was to go");
	}
	ASSERT_EQ(0, module_unload());
	pthread_join(self->thread, NULL);
	EXPECT_EQ(variant->ret, self->ret);
}

TEST_PROGRAM("Unloads the module while a call is in its code.")
