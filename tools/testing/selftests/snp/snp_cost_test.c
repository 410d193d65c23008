// SPDX-License-Identifier: GPL-2.0
/*
 * The cost of following the RMP for its callers, in instructions, by the number of containers
 * that follow: if none of them maps the frame, and if all do.
 */
#include "cost.h"
#include "follow.h"
#include "harness.h"
#include "module.h"
#include "units.h"

#define AT		GIB(4)
#define SIZE		MIB(8)
/* Two pieces of 2M: all containers map the first one, and none the second. */
#define MAPPED		MIB(4)
#define EVERYBODYS	MIB(2)
#define NOBODYS		MIB(6)

/*
 * Maximums: the probes of one call; a table that is not ready, mostly to clear it; and a
 * merge, for each container that maps.
 */
#define PROBES		1000
#define TABLE_COST	5500
#define MERGE_COST	10500

FIXTURE(cost) {
	struct vmm vmms[MAX_DEVICES];
	struct memory memory;
	struct guest guest;
	struct cost alone;	/* nobody follows */
};

FIXTURE_VARIANT(cost) {
	int containers;
	bool reserve;		/* of tables */
};

FIXTURE_VARIANT_ADD(cost, of_1) { .containers = 1, .reserve = true };
FIXTURE_VARIANT_ADD(cost, of_2) { .containers = 2, .reserve = true };
FIXTURE_VARIANT_ADD(cost, of_4) { .containers = 4, .reserve = true };
FIXTURE_VARIANT_ADD(cost, of_8) { .containers = 8, .reserve = true };
FIXTURE_VARIANT_ADD(cost, without_reserve) { .containers = 1 };

FIXTURE_SETUP(cost)
{
	ASSERT_TRUE(wait_until_counting());
	ASSERT_SOUND(module_require(variant->reserve ? "" : "reserve_tables=0"));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
	ASSERT_SOUND(follow_ends());
	ASSERT_SOUND(cost_of(&self->guest, NOBODYS, &self->alone));
	for (int i = 0; i < variant->containers; i++) {
		struct vmm *vmm = &self->vmms[i];

		ASSERT_SOUND(vmm_open_with(vmm, VFIO_PGSIZE_IOMMU, i, 1));
		ASSERT_SOUND(vmm_policy(vmm, FOLLOW, UPTO_2M));
		ASSERT_SOUND(vmm_map(vmm, AT, self->memory.va, MAPPED, READ_WRITE));
	}
	ASSERT_TRUE(follow_is_hooked());
}

FIXTURE_TEARDOWN(cost)
{
	for (int i = variant->containers - 1; i >= 0; i--)
		EXPECT_SOUND(vmm_close(&self->vmms[i]));
	guest_stop(&self->guest);
	memory_free(&self->memory);
	huge_pages_release();
}

/* Measures a 2M for which `changes` leaves of each container change. */
static problem measure(FIXTURE_DATA(cost) *self, int containers, uint64_t gpa, uint64_t changes,
		       struct cost *cost)
{
	struct vfio_pgsize_stats before[MAX_DEVICES];
	problem wrong = NULL;

	for (int i = 0; !wrong && i < containers; i++)
		wrong = follow_stats(&self->vmms[i], &before[i]);
	if (!wrong)
		wrong = cost_of(&self->guest, gpa, cost);
	for (int i = 0; !wrong && i < containers; i++)
		wrong = follow_counted(&self->vmms[i], &before[i], changes, changes);
	return wrong;
}

TEST_F_TIMEOUT(cost, is_bounded, TIMEOUT)
{
	struct cost nobody, everybody, probes, work;
	int nr = variant->containers;

	ASSERT_SOUND(measure(self, nr, NOBODYS, 0, &nobody));
	ASSERT_SOUND(measure(self, nr, EVERYBODYS, COST_ROUNDS, &everybody));
	probes = cost_beyond(nobody, self->alone);
	work = cost_beyond(everybody, nobody);
	ksft_print_msg("instructions, nobody follows: smash %lu, 2M made whole %lu\n",
		       self->alone.smash, self->alone.whole);
	ksft_print_msg("%d following, none maps it: smash +%lu, 2M made whole +%lu\n", nr,
		       probes.smash, probes.whole);
	ksft_print_msg("%d following, all map it%s: split +%lu, merge +%lu on top\n", nr,
		       variant->reserve ? "" : ", no reserve", work.smash, work.whole);
	EXPECT_GE(PROBES, probes.smash);
	EXPECT_GE(PROBES, probes.whole);
	EXPECT_GE(nr * (SPLIT_COST + (variant->reserve ? 0 : TABLE_COST)), work.smash);
	EXPECT_GE(nr * MERGE_COST, work.whole);
}

TEST_PROGRAM("What following the RMP costs, in instructions.")
