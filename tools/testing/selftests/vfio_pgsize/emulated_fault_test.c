// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of what devices that are software ask for fails in turn, and each copy
 * (fault injection of the debug kernel): what fails is not done, and locked and pinned
 * memory are exact.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

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

/* The IOMMU that comes late. */
TEST_F_TIMEOUT(emulated_fault, attach, TIMEOUT)
{
	char bdf[BDF_SIZE];
	int group;

	ASSERT_SOUND(edu_find(0, bdf));
	group = group_open(bdf);
	ASSERT_LE(0, group);
	ASSERT_EQ(0, emulated_pin(self->device, AT, 8, RW, NULL));
	FAIL_EACH(group_join(group, self->alone.container)) {
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

TEST_PROGRAM("Each allocation of what devices that are software ask for fails in turn.")
