// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of a map and of an unmap fails in turn (fault injection of the debug
 * kernel), and each copy, on containers of type1's own types: all or nothing.
 */
#include <unistd.h>

#include "fail_nth.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(4)
#define SIZE	MIB(4)
#define PAGES	((long)(SIZE / PAGE))

/* No call makes more allocations. */
#define MOST	5000

FIXTURE(type1_fault) {
	struct vmm vmm;
	struct memory memory;
	int nth;	/* the file that says which allocation of this thread fails */
};

FIXTURE_VARIANT(type1_fault) {
	const char *parameters;
	unsigned long type;
	uint64_t unmapped;	/* the size of an unmap that takes all */
};

FIXTURE_VARIANT_ADD(type1_fault, v1) { "serve_type1=1", VFIO_TYPE1_IOMMU, PAGE };
FIXTURE_VARIANT_ADD(type1_fault, v2) { "serve_type1v2=1", VFIO_TYPE1v2_IOMMU, SIZE };

FIXTURE_SETUP(type1_fault)
{
	ASSERT_SOUND(fail_nth_open(&self->nth));
	ASSERT_SOUND(module_require(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
}

FIXTURE_TEARDOWN(type1_fault)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(module_require(""));
	memory_free(&self->memory);
	close(self->nth);
}

static problem has_all(FIXTURE_DATA(type1_fault) *self)
{
	problem wrong = account_rose(&self->vmm.before, PAGES, PAGES);

	return wrong ? wrong : vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE,
					     self->vmm.sizes, READ_WRITE);
}

static problem has_nothing(FIXTURE_DATA(type1_fault) *self)
{
	problem wrong = account_rose(&self->vmm.before, 0, 0);

	return wrong ? wrong : vmm_has_nothing(&self->vmm);
}

TEST_F_TIMEOUT(type1_fault, map_and_unmap, 2 * TIMEOUT)
{
	int container = self->vmm.container, ret = -1, refused = 0, kept = 0, n;
	bool happened;

	for (n = 1; ret && n < MOST; n++) {
		ASSERT_SOUND(fail_nth(self->nth, n));
		ret = dma_map(container, AT, self->memory.va, SIZE, READ_WRITE);
		happened = fail_nth_happened(self->nth);
		if (!ret)
			break;
		EXPECT_TRUE(happened && (ret == -ENOMEM || ret == -EFAULT)) {
			TH_LOG("failure %d: %s", n, strerror(-ret));
		}
		ASSERT_SOUND(has_nothing(self));
		refused++;
	}
	ASSERT_EQ(0, ret);
	EXPECT_LT(2, refused);
	ASSERT_SOUND(has_all(self));

	ret = -1;
	for (n = 1; ret && n < MOST; n++) {
		uint64_t size = variant->unmapped;

		ASSERT_SOUND(fail_nth(self->nth, n));
		ret = dma_unmap(container, AT, &size, 0);
		happened = fail_nth_happened(self->nth);
		if (!ret)
			break;
		EXPECT_TRUE(happened && (ret == -ENOMEM || ret == -EFAULT));
		if (!has_all(self)) {
			kept++;
			continue;
		}
		/* Just the size could not be written. */
		EXPECT_EQ(-EFAULT, ret);
		ASSERT_SOUND(has_nothing(self));
		ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(0, kept);
	EXPECT_SOUND(has_nothing(self));
}

TEST_PROGRAM("Each allocation of a map and an unmap fails in turn, on VFIO's own types.")
