// SPDX-License-Identifier: GPL-2.0
/*
 * One 2M mapped at many IOVAs: how many of them can follow the RMP, and how long the hook
 * holds its lock with interrupts off (the test build's parameter `longest`) while it splits and
 * merges them all.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "cost.h"
#include "follow.h"
#include "harness.h"
#include "module.h"
#include "text.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(4)
/* The maximum: see VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT. */
#define MOST	1024
/*
 * Maximum instructions with interrupts off: one split or merge with its flush; and the same
 * with the kernel's allocator, which may split a 2M for a table.
 */
#define HELD		12000
#define HELD_ALLOCATING	500000
#define LONGEST	"/sys/module/vfio_pgsize/parameters/longest"
#define LONG	800

FIXTURE(aliases) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
};

FIXTURE_VARIANT(aliases) {
	const char *parameters;
	int nr;
	uint64_t held;
};

/* Half of the reserve is for when there is no memory. */
FIXTURE_VARIANT_ADD(aliases, with_reserve) { "reserve_tables=1024", 500, HELD };
FIXTURE_VARIANT_ADD(aliases, most) { "", MOST, HELD_ALLOCATING };

FIXTURE_SETUP(aliases)
{
	ASSERT_TRUE(wait_until_counting());
	ASSERT_SOUND(module_require(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(aliases)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	guest_stop(&self->guest);
	memory_free(&self->memory);
	huge_pages_release();
}

typedef FIXTURE_DATA(aliases) Aliases;

static int map_alias(Aliases *self, int i)
{
	return dma_map(self->vmm.container, AT + i * MIB(2), self->memory.va, MIB(2), READ_WRITE);
}

static problem map_aliases(Aliases *self, int nr)
{
	for (int i = 0; i < nr; i++) {
		int ret = map_alias(self, i);

		if (ret)
			return problem_is("mapping the 2M for the %dth time: %d", i + 1, ret);
	}
	return NULL;
}

static problem longest_is(uint64_t *longest)
{
	char *text = text_read(LONGEST);

	*longest = text ? strtoull(text, NULL, 10) : 0;
	free(text);
	return *longest ? NULL : problem_is(LONGEST " tells nothing (is this the test build?)");
}

/* No more mappings of one frame can follow, by any call. */
TEST_F_TIMEOUT(aliases, are_bounded, LONG)
{
	if (variant->nr < MOST)
		SKIP(return, "not so many");
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	ASSERT_SOUND(map_aliases(self, MOST));
	EXPECT_EQ(-EMLINK, map_alias(self, MOST));
	/* Other frames are not affected; existing mappings can change their policy. */
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(64), self->memory.va + MIB(2), MIB(2), READ_WRITE));
	ASSERT_SOUND(vmm_policy(&self->vmm, SPLIT, UPTO_2M));
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	/* Mappings that do not follow are not limited, and cannot begin to follow. */
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, map_alias(self, MOST));
	EXPECT_EQ(-EMLINK, policy_set(self->vmm.container, FOLLOW, 0, 0, UPTO_2M));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + MOST * MIB(2), MIB(2)));
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
}

TEST_F_TIMEOUT(aliases, let_the_lock_go, LONG)
{
	struct vfio_pgsize_stats before;
	uint64_t start, split, merge, longest;
	int nr = variant->nr;

	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	ASSERT_SOUND(map_aliases(self, nr));
	ASSERT_SOUND(follow_stats(&self->vmm, &before));
	ASSERT_SOUND(text_write(LONGEST, "0"));
	start = instructions();
	ASSERT_SOUND(guest_assign(&self->guest, PAGE, false));
	split = instructions() - start;
	EXPECT_SOUND(follow_counted(&self->vmm, &before, nr, 0));
	EXPECT_SOUND(follow_agrees(&self->vmm, 1));
	ASSERT_SOUND(guest_share(&self->guest, PAGE, false));
	start = instructions();
	ASSERT_SOUND(guest_assign(&self->guest, 0, true));
	merge = instructions() - start;
	ASSERT_SOUND(guest_share(&self->guest, 0, true));
	/* The worker may have taken part. */
	sleep(2);
	EXPECT_SOUND(follow_counted(&self->vmm, &before, nr, nr));
	ASSERT_SOUND(longest_is(&longest));
	ksft_print_msg("%d mappings of a 2M: assignment of a 4K %lu instructions, of the 2M %lu; at most %lu with interrupts off\n",
		       nr, split, merge, longest);
	EXPECT_GE(variant->held, longest);
}

TEST_PROGRAM("One 2M that is mapped at many IOVAs, and follows the RMP at all of them.")
