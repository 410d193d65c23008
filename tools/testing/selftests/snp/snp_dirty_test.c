// SPDX-License-Identifier: GPL-2.0
/*
 * Leaves that follow the RMP while what devices write is tracked: they agree with the
 * RMP all the time, and what is written is told.
 */
#include <errno.h>

#include "dirty.h"
#include "follow.h"
#include "guest.h"
#include "harness.h"
#include "module.h"
#include "rmp.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(16)
#define PIECE(i) ((i) * MIB(2))
#define ALL_SMALL 0xff
#define TRACKING VFIO_PGSIZE_POLICY_TRACKING

FIXTURE(snp_dirty) {
	struct vmm vmm;
	struct memory memory;
	struct device device;
	struct guest guest;
	struct vfio_pgsize_stats stats;
	struct rmp_counts counts;
};

FIXTURE_SETUP(snp_dirty)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	fill_with_pattern(self->memory.va, SIZE);
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(device_start(&self->device, &self->vmm, 0));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(follow_stats(&self->vmm, &self->stats));
	ASSERT_SOUND(rmp_counts(&self->counts));
}

FIXTURE_TEARDOWN(snp_dirty)
{
	struct rmp_counts now = {};

	EXPECT_SOUND(rmp_counts(&now));
	EXPECT_EQ(self->counts.dma_faults, now.dma_faults);
	guest_stop(&self->guest);
	device_stop(&self->device);
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_EQ(0, follow_followers());
	memory_free(&self->memory);
	huge_pages_release();
}

#define SMALL(bits) EXPECT_SOUND(is_small(self, bits))

static problem is_small(FIXTURE_DATA(snp_dirty) *self, uint64_t bits)
{
	struct mapped mapped = { AT, self->memory.va, SIZE, bits };

	return follow_has(&self->vmm, &mapped, 1, 1);
}

/* A word of a page is written, and just this page is told. */
static problem writes(FIXTURE_DATA(snp_dirty) *self, uint64_t page, const struct dirty_run *told)
{
	problem wrong = device_works(&self->device, AT + page * PAGE,
				     self->memory.va + page * PAGE);

	return wrong ? wrong : dirty_is(self->vmm.container, AT, SIZE, told);
}

TEST_F_TIMEOUT(snp_dirty, small_meanwhile, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_SOUND(guest_assign(&self->guest, PIECE(3), true));
	SMALL(0);
	ASSERT_EQ(0, dirty_start(container));
	SMALL(ALL_SMALL);
	/* It still follows: there is nothing to be split. */
	EXPECT_EQ(1, follow_followers());
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(3)));
	ASSERT_SOUND(guest_share(&self->guest, PIECE(3) + PAGE, false));
	EXPECT_SOUND(writes(self, 3 * 512 + 1, DIRTY({ 3 * 512 + 1, 1 })));
	EXPECT_SOUND(writes(self, 7, DIRTY({ 7, 1 })));
	/* What is whole again stays small. */
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(5), true));
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(5)));
	ASSERT_SOUND(guest_share_pages(&self->guest, PIECE(5), MIB(2)));
	SMALL(ALL_SMALL);
	EXPECT_SOUND(follow_agrees(&self->vmm, 1));

	/* The policy holds again: large leaves are those that the RMP allows. */
	ASSERT_EQ(0, dirty_stop(container));
	SMALL(1 << 3);
	EXPECT_SOUND(follow_agrees(&self->vmm, 1));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(6), true));
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(6)));
	SMALL(1 << 3 | 1 << 6);
}

/* Leaves of 2M are tracked, but not where they follow: the hook would change them meanwhile. */
TEST_F_TIMEOUT(snp_dirty, no_large_leaves, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_EQ(0, policy_of_all(container, TRACKING, UPTO_2M));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(3), true));
	ASSERT_EQ(0, dirty_start(container));
	SMALL(ALL_SMALL);
	EXPECT_SOUND(dirty_is(container, AT, SIZE, CLEAN));
	EXPECT_SOUND(writes(self, 512 + 5, DIRTY({ 512 + 5, 1 })));

	ASSERT_SOUND(guest_smash(&self->guest, PIECE(3)));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, CLEAN));
	ASSERT_SOUND(guest_share(&self->guest, PIECE(3) + PAGE, false));
	EXPECT_SOUND(writes(self, 3 * 512 + 1, DIRTY({ 3 * 512 + 1, 1 })));
	ASSERT_EQ(0, dirty_stop(container));
	SMALL(1 << 3);
}

TEST_PROGRAM("Dirty tracking where leaves follow the RMP.")
