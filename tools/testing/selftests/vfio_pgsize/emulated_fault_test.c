// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of what devices that are software ask for fails in turn, and each copy
 * (fault injection of the debug kernel): what fails is not done, and locked and pinned
 * memory are exact.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "dirty.h"
#include "emulated.h"
#include "fail_nth.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(4)
#define PAGES	((long)(SIZE / PAGE))
#define RW	(EMULATED_READ | EMULATED_WRITE)

/* No call makes more allocations. */
#define MOST	5000

FIXTURE(emulated_fault) {
	struct alone alone;
	struct emulated *device;
	struct memory memory;
	int nth;	/* the file that says which allocation of this thread fails */
	int failures;
};

FIXTURE_SETUP(emulated_fault)
{
	ASSERT_SOUND(fail_nth_open(&self->nth));
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, SIZE));
	ASSERT_SOUND(alone_open(&self->alone, VFIO_PGSIZE_IOMMU, 1));
	self->device = &self->alone.devices[0];
	ASSERT_EQ(0, dma_map(self->alone.container, AT, self->memory.va, SIZE, READ_WRITE));
}

FIXTURE_TEARDOWN(emulated_fault)
{
	EXPECT_SOUND(alone_close(&self->alone));
	memory_free(&self->memory);
	close(self->nth);
}

#define ROSE(locked, pinned)	EXPECT_SOUND(account_rose(&self->alone.before, locked, pinned))

/*
 * Makes a call, failing at each allocation, until none fails; what follows is done after
 * each failure.
 */
#define FAIL_EACH(call)									\
	for (int n = 1, ret = -1, wrong;						\
	     ret && n < MOST && (wrong = !!fail_nth(self->nth, n),			\
				 ret = wrong ? ret : (call), true); n++)		\
		if (wrong || !fail_nth_happened(self->nth)) {				\
			ASSERT_EQ(0, ret);						\
			ret = 0;							\
		} else if (self->failures++, ret != 0)

TEST_F_TIMEOUT(emulated_fault, pin, TIMEOUT)
{
	ASSERT_EQ(0, emulated_pin(self->device, AT + 4 * PAGE, 2, RW, NULL));
	FAIL_EACH(emulated_pin(self->device, AT, 8, RW, NULL)) {
		EXPECT_TRUE(ret == -ENOMEM || ret == -EFAULT) {
			TH_LOG("failure %d: %s", n, strerror(-ret));
		}
		ROSE(2, 2);
		/* Those that were pinned before are so just once. */
		ASSERT_EQ(0, emulated_unpin(self->device, AT + 4 * PAGE, 2));
		ROSE(0, 0);
		ASSERT_EQ(0, emulated_pin(self->device, AT + 4 * PAGE, 2, RW, NULL));
	}
	ROSE(8, 8);
	EXPECT_LT(8, self->failures);
}

TEST_F_TIMEOUT(emulated_fault, rw, TIMEOUT)
{
	char bytes[100] = "bytes";

	FAIL_EACH(emulated_rw(self->device, AT + PAGE - 50, bytes, 100, EMULATED_WRITE))
		EXPECT_TRUE(ret == -ENOMEM || ret == -EFAULT);
	EXPECT_STREQ("bytes", (char *)self->memory.va + PAGE - 50);
	EXPECT_LT(2, self->failures);
	EXPECT_EQ(0, emulated_rw(self->device, AT, bytes, 100, 0));
}

static int unmap(FIXTURE_DATA(emulated_fault) *self)
{
	uint64_t size = SIZE;

	return dma_unmap(self->alone.container, AT, &size, 0);
}

TEST_F_TIMEOUT(emulated_fault, unmap, TIMEOUT)
{
	ASSERT_EQ(0, emulated_pin(self->device, AT, 8, RW, NULL));
	FAIL_EACH(unmap(self)) {
		EXPECT_TRUE(ret == -ENOMEM || ret == -EFAULT);
		/* If it is the answer that could not be written, all is gone. */
		if (emulated_pin(self->device, AT, 8, RW, NULL)) {
			EXPECT_EQ(-EFAULT, ret);
			ROSE(0, 0);
			ASSERT_EQ(0, dma_map(self->alone.container, AT, self->memory.va, SIZE,
					     READ_WRITE));
			ASSERT_EQ(0, emulated_pin(self->device, AT, 8, RW, NULL));
		}
		ROSE(8, 8);
	}
	ROSE(0, 0);
	EXPECT_LT(1, self->failures);
}

/* Another of them comes. */
TEST_F_TIMEOUT(emulated_fault, join, TIMEOUT)
{
	struct emulated *other = &self->alone.devices[1];

	FAIL_EACH(emulated_join(other, self->alone.container, 1)) {
		EXPECT_TRUE(ret == -ENOMEM || ret == -EFAULT);
		EXPECT_EQ(0, emulated_pin(self->device, AT, 1, RW, NULL));
		ROSE(1, 1);
		EXPECT_EQ(0, emulated_unpin(self->device, AT, 1));
	}
	EXPECT_LT(0, self->failures);
	ASSERT_SOUND(emulated_open(other, 1));
	EXPECT_EQ(0, emulated_pin(other, AT, 8, RW, NULL));
	ROSE(8, 8);
}

/* The leaves of the huge pages at 2G. */
static problem has_leaves(int container, uint8_t *va, uint64_t sizes)
{
	struct leaves expected = {}, found = {};
	problem wrong = leaves_tile(&expected, GIB(2), va, SIZE, sizes, READ_WRITE);

	if (!wrong)
		wrong = leaves_query(&found, container, 0, GIB(2), SIZE);
	if (!wrong)
		wrong = leaves_differ(&expected, &found);
	leaves_free(&expected);
	leaves_free(&found);
	return wrong;
}

/* A group comes. Goes again if it has come though an allocation failed: the next one is to fail. */
static int join(FIXTURE_DATA(emulated_fault) *self, int group)
{
	int ret = group_join(group, self->alone.container);

	if (ret || !fail_nth_happened(self->nth))
		return ret;
	ret = group_leave(group);
	return ret ? ret : -EAGAIN;
}

/* The IOMMU that comes late. */
TEST_F_TIMEOUT(emulated_fault, attach, TIMEOUT)
{
	char bdf[BDF_SIZE];
	int group;

	ASSERT_SOUND(edu_find(0, bdf));
	group = group_open(bdf);
	ASSERT_LE(0, group);
	ASSERT_EQ(0, emulated_pin(self->device, AT, 8, RW, NULL));
	FAIL_EACH(join(self, group)) {
		ROSE(8, 8);
		EXPECT_EQ(0, emulated_pin(self->device, AT + SIZE - PAGE, 1, RW, NULL));
		ROSE(9, 9);
		EXPECT_EQ(0, emulated_unpin(self->device, AT + SIZE - PAGE, 1));
	}
	ROSE(PAGES, PAGES + 8);
	EXPECT_LT(5, self->failures);
	close(group);
	ROSE(8, 8);
}

/* The same while dirty tracking is on: what was written is told, and leaves are small until it ends. */
TEST_F_TIMEOUT(emulated_fault, attach_tracked, TIMEOUT)
{
	int container = self->alone.container, group;
	struct info info;
	char bdf[BDF_SIZE], byte = 1;
	struct memory huge;

	ASSERT_SOUND(memory_alloc(&huge, HUGETLB_2M, SIZE));
	ASSERT_EQ(0, dma_map(container, GIB(2), huge.va, SIZE, READ_WRITE));
	ASSERT_SOUND(edu_find(0, bdf));
	group = group_open(bdf);
	ASSERT_LE(0, group);
	ASSERT_EQ(0, emulated_pin(self->device, AT, 8, RW, NULL));
	ASSERT_EQ(0, dirty_start(container));
	ASSERT_EQ(0, emulated_rw(self->device, GIB(2) + 700 * PAGE, &byte, 1, EMULATED_WRITE));
	FAIL_EACH(join(self, group)) {
		ROSE(8, 8);
		EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, 8 })));
		EXPECT_SOUND(dirty_is(container, GIB(2), SIZE, DIRTY({ 700, 1 })));
		EXPECT_SOUND(dirty_is(container, GIB(2), SIZE, CLEAN));
		ASSERT_EQ(0, emulated_rw(self->device, GIB(2) + 700 * PAGE, &byte, 1,
					 EMULATED_WRITE));
	}
	EXPECT_LT(5, self->failures);
	ROSE(2 * PAGES, 2 * PAGES + 8);
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, 8 })));
	EXPECT_SOUND(dirty_is(container, GIB(2), SIZE, DIRTY({ 700, 1 })));
	EXPECT_SOUND(has_leaves(container, huge.va, ONLY_4K));
	ASSERT_EQ(0, dirty_stop(container));
	ASSERT_SOUND(container_info(container, &info));
	EXPECT_SOUND(has_leaves(container, huge.va, info.policy.supported));
	close(group);
	ROSE(8, 8);
	memory_free(&huge);
	huge_pages_release();
}

TEST_PROGRAM("Each allocation of what devices that are software ask for fails in turn.")
