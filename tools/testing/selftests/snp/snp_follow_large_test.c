// SPDX-License-Identifier: GPL-2.0
/* Leaves of more than 2M: the smashed 2M gets 4K leaves, the rest of the leaf 2M leaves. */
#include "follow.h"
#include "guest.h"
#include "harness.h"
#include "module.h"
#include "units.h"

#define AT	GIB(4)
#define SMASHED	MIB(70)

FIXTURE(large) {
	struct vmm vmm;
	struct memory memory;	/* one page of 1G */
	struct device device;
	struct guest guest;
};

FIXTURE_SETUP(large)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_1G, GIB(1)));
	/* Now: the processor must not store through a 1G page either once some of it is assigned. */
	fill_with_pattern(self->memory.va + SMASHED - MIB(2), MIB(6));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(device_start(&self->device, &self->vmm, 0));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, GIB(1)));
}

FIXTURE_TEARDOWN(large)
{
	guest_stop(&self->guest);
	device_stop(&self->device);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* Leaves of `size` from `start` to `end`, with 2M leaves around the smashed one. */
static problem has(FIXTURE_DATA(large) *self, uint64_t start, uint64_t end, uint64_t size,
		   uint64_t split, uint64_t split_end)
{
	struct leaves expected = {};
	problem wrong;

	if (start < split)
		leaves_add(&expected, AT + start, split - start, size, READ_WRITE);
	if (split < SMASHED)
		leaves_add(&expected, AT + split, SMASHED - split, MIB(2), READ_WRITE);
	leaves_add(&expected, AT + SMASHED, MIB(2), PAGE, READ_WRITE);
	leaves_add(&expected, AT + SMASHED + MIB(2), split_end - SMASHED - MIB(2), MIB(2),
		   READ_WRITE);
	if (split_end < end)
		leaves_add(&expected, AT + split_end, end - split_end, size, READ_WRITE);
	leaves_add(&expected, SCRATCH_IOVA, PAGE, PAGE, READ_WRITE);
	wrong = vmm_has_leaves(&self->vmm, &expected);
	leaves_free(&expected);
	return wrong;
}

static problem works(FIXTURE_DATA(large) *self, uint64_t at)
{
	return device_works(&self->device, AT + at, self->memory.va + at);
}

static void smash(struct __test_metadata *_metadata, FIXTURE_DATA(large) *self)
{
	ASSERT_SOUND(works(self, SMASHED + PAGE));
	ASSERT_SOUND(guest_assign(&self->guest, SMASHED, false));
	EXPECT_SOUND(works(self, SMASHED + PAGE));
	EXPECT_SOUND(works(self, SMASHED - PAGE));
	EXPECT_SOUND(works(self, SMASHED + MIB(2)));
}

TEST_F_TIMEOUT(large, one_of_1g, TIMEOUT)
{
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, ANY_SIZE));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, GIB(1), READ_WRITE));
	smash(_metadata, self);
	EXPECT_SOUND(has(self, 0, GIB(1), GIB(1), 0, GIB(1)));
}

/* The policy is set after the leaf exists, for a range within it. */
TEST_F_TIMEOUT(large, range_in_1g, TIMEOUT)
{
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, GIB(1), READ_WRITE));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE | FOLLOW,
				AT + MIB(64), MIB(64), ANY_SIZE));
	smash(_metadata, self);
	EXPECT_SOUND(has(self, 0, GIB(1), GIB(1), 0, GIB(1)));
}

/* A leaf of several equal entries. */
TEST_F_TIMEOUT(large, one_of_64m, TIMEOUT)
{
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, PAGE | MIB(2) | MIB(64)));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, MIB(256), READ_WRITE));
	smash(_metadata, self);
	EXPECT_SOUND(has(self, 0, MIB(256), MIB(64), MIB(64), MIB(128)));
	/* It gets its 2M back, and no more. */
	ASSERT_SOUND(guest_share(&self->guest, SMASHED, false));
	ASSERT_SOUND(guest_share(&self->guest, SMASHED, true));
	EXPECT_SOUND(works(self, SMASHED));
}

TEST_PROGRAM("Leaves of more than 2M that follow the RMP.")
