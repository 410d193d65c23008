// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of the calls of dirty tracking fails in turn: the call fails, or does
 * without; what was written is told nevertheless. With fault injection (the debug
 * kernel's), and the test build's groups without dirty bits.
 */
#include <unistd.h>

#include "dirty.h"
#include "fail_nth.h"
#include "harness.h"
#include "module.h"
#include "text.h"
#include "units.h"
#include "vmm.h"

#define AT		GIB(4)
#define SIZE		MIB(8)
#define NO_DIRTY_BITS	"/sys/module/vfio_pgsize/parameters/no_dirty_bits"

/* No call makes more allocations. */
#define MOST		200

FIXTURE(dirty_fault) {
	struct vmm vmm;
	struct memory memory;
	int nth;	/* the file that says which allocation of this thread fails */
};

FIXTURE_SETUP(dirty_fault)
{
	ASSERT_SOUND(module_require("own_domains=1"));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
}

FIXTURE_TEARDOWN(dirty_fault)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(module_require(""));
	memory_free(&self->memory);
	huge_pages_release();
}

/* An argument that cannot be copied is a failure, too. */
static bool is_excused(int ret)
{
	return ret == -ENOMEM || ret == -EFAULT;
}

static problem has(FIXTURE_DATA(dirty_fault) *self, uint64_t sizes)
{
	return vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, sizes, READ_WRITE);
}

TEST_F_TIMEOUT(dirty_fault, start_and_stop, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;
	int n, failed = 0, large = 0;
	bool happened = true;

	ASSERT_SOUND(fail_nth_open(&self->nth));
	for (n = 1; happened && n < MOST; n++) {
		int ret;

		ASSERT_SOUND(fail_nth(self->nth, n));
		ret = dirty_start(container);
		happened = fail_nth_happened(self->nth);
		if (ret) {
			uint64_t bitmap[DIRTY_BYTES(SIZE) / 8];

			ASSERT_TRUE(happened);
			ASSERT_TRUE(is_excused(ret));
			EXPECT_EQ(-EINVAL, dirty_get(container, AT, SIZE, bitmap));
			ASSERT_EQ(0, policy_of_all(container, VFIO_PGSIZE_POLICY_APPLY, UPTO_2M));
			EXPECT_SOUND(has(self, UPTO_2M));
			failed++;
			continue;
		}
		EXPECT_SOUND(has(self, ONLY_4K));
		ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 700, 1 })));
		EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 700, 1 })));
		ASSERT_EQ(0, dirty_stop(container));
		EXPECT_SOUND(has(self, UPTO_2M));
	}
	EXPECT_LT(n, MOST);
	EXPECT_GT(failed, 3);

	/* The end never fails: leaves may stay small. */
	happened = true;
	for (n = 1; happened && n < MOST; n++) {
		int ret;

		ASSERT_EQ(0, dirty_start(container));
		ASSERT_SOUND(fail_nth(self->nth, n));
		ret = dirty_stop(container);
		happened = fail_nth_happened(self->nth);
		if (ret) {
			ASSERT_EQ(-EFAULT, ret);
			ASSERT_EQ(0, dirty_stop(container));
		}
		large += !has(self, UPTO_2M);
		ASSERT_EQ(0, policy_of_all(container, VFIO_PGSIZE_POLICY_APPLY, UPTO_2M));
		EXPECT_SOUND(has(self, UPTO_2M));
	}
	EXPECT_LT(n, MOST);
	EXPECT_GT(large, 0);
	close(self->nth);
}

TEST_F_TIMEOUT(dirty_fault, bitmaps, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	uint64_t bitmap[DIRTY_BYTES(SIZE) / 8] = {};
	int container = self->vmm.container;
	int n, failed = 0;
	bool happened = true;

	ASSERT_SOUND(fail_nth_open(&self->nth));
	ASSERT_EQ(0, dirty_start(container));
	for (n = 1; happened && n < MOST; n++) {
		uint64_t page = n % (SIZE / PAGE), size = SIZE;
		int ret;

		/* One call in two unmaps, and another reads. */
		ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ page, 1 })));
		memset(bitmap, 0, sizeof(bitmap));
		ASSERT_SOUND(fail_nth(self->nth, (n + 1) / 2));
		ret = n % 2 ? dirty_get(container, AT, SIZE, bitmap) :
			      dirty_unmap(container, AT, &size, bitmap);
		happened = fail_nth_happened(self->nth) || n % 2;
		if (ret == -EFAULT && n % 2 == 0 &&
		    !vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE)) {
			/* Just the size could not be written: the rest is done. */
			EXPECT_SOUND(dirty_bits_are(bitmap, SIZE, DIRTY({ page, 1 })));
			continue;
		}
		if (ret) {
			ASSERT_TRUE(is_excused(ret));
			EXPECT_SOUND(has(self, ONLY_4K));
			EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ page, 1 })));
			failed++;
			continue;
		}
		EXPECT_SOUND(dirty_bits_are(bitmap, SIZE, DIRTY({ page, 1 })));
		if (n % 2 == 0)
			ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	}
	EXPECT_LT(n, MOST);
	EXPECT_GT(failed, 3);
	close(self->nth);
}

static problem set_no_dirty_bits(const char *value)
{
	return text_write(NO_DIRTY_BITS, value);
}

/*
 * A group comes whose IOMMU has no dirty bits: all is dirty, as in type1. It goes: all
 * is dirty once, and then what is written.
 */
TEST_F_TIMEOUT(dirty_fault, an_iommu_without, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;

	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 7, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 7, 1 })));
	ASSERT_SOUND(set_no_dirty_bits("1"));
	EXPECT_SOUND(vmm_attach(&self->vmm, 1));
	ASSERT_SOUND(set_no_dirty_bits("0"));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
	vmm_detach(&self->vmm, 1);
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, CLEAN));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 8, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 8, 1 })));
	ASSERT_EQ(0, dirty_stop(container));

	/* It is there when tracking begins: leaves stay large until it goes. */
	ASSERT_SOUND(set_no_dirty_bits("1"));
	EXPECT_SOUND(vmm_attach(&self->vmm, 1));
	ASSERT_SOUND(set_no_dirty_bits("0"));
	EXPECT_EQ(2, vmm_domains(&self->vmm));
	ASSERT_EQ(0, dirty_start(container));
	EXPECT_SOUND(has(self, UPTO_2M));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
	vmm_detach(&self->vmm, 1);
	EXPECT_SOUND(has(self, ONLY_4K));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, CLEAN));
	ASSERT_EQ(0, dirty_stop(container));
	EXPECT_SOUND(has(self, UPTO_2M));
}

TEST_PROGRAM("Dirty tracking when memory runs out, and where an IOMMU has no dirty bits.")
