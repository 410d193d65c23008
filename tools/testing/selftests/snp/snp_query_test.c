// SPDX-License-Identifier: GPL-2.0
/*
 * QUERY with the RMP's entries: in each state of a 2M, for leaves of 4K, of 2M and larger,
 * compared with the test's knowledge and with the oracle.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "follow.h"
#include "guest.h"
#include "harness.h"
#include "module.h"
#include "rmp.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(16)
#define PIECE(i) ((i) * MIB(2))
#define PIECES	8
#define MAX_RUNS 64

#define RMP_4K	VFIO_PGSIZE_RUN_RMP_4K
#define RMP_2M	VFIO_PGSIZE_RUN_RMP_2M
#define ASSIGNED VFIO_PGSIZE_RUN_ASSIGNED
#define RMP	VFIO_PGSIZE_QUERY_RMP

FIXTURE(query) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
	struct vfio_pgsize_run runs[MAX_RUNS];
	uint32_t nr;
};

FIXTURE_SETUP(query)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(query)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	guest_stop(&self->guest);
	memory_free(&self->memory);
	huge_pages_release();
}

static int ask(FIXTURE_DATA(query) *self, uint32_t flags, uint64_t at, uint64_t size)
{
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.flags = flags,
		.iova = AT + at,
		.size = size,
		.nr = MAX_RUNS,
		.runs = (uintptr_t)self->runs,
	};

	if (ioctl(self->vmm.container, VFIO_PGSIZE_QUERY, &query))
		return -errno;
	self->nr = query.nr;
	return query.size ? -E2BIG : 0;
}

/* The flags of the page at `at`, without permissions. */
static uint32_t said_of(FIXTURE_DATA(query) *self, uint64_t at)
{
	for (uint32_t i = 0; i < self->nr; i++)
		if (self->runs[i].iova <= AT + at &&
		    AT + at < self->runs[i].iova + self->runs[i].size)
			return self->runs[i].flags & ~READ_WRITE;
	return ~0U;
}

/*
 * What the oracle finds under the leaf of `pgsize` that contains the page. It reads the pages
 * that matter in a 2M where at most the first, the last or page 9 differs.
 */
static problem oracle_says(FIXTURE_DATA(query) *self, uint64_t at, uint64_t pgsize,
			   uint32_t *flags)
{
	uint64_t start = at / pgsize * pgsize;

	*flags = 0;
	for (uint64_t page = start; page < start + pgsize; page += PAGE) {
		uint64_t in_piece = page % MIB(2) / PAGE;
		struct rmp_entry entry;
		problem wrong;
		uint64_t phys;

		if (in_piece > 9 && in_piece != 511)
			continue;
		wrong = memory_phys(self->memory.va + page, 1, &phys);
		if (!wrong)
			wrong = rmp_entry(&entry, phys);
		if (wrong)
			return wrong;
		*flags |= entry.huge ? RMP_2M : RMP_4K;
		*flags |= entry.assigned ? ASSIGNED : 0;
	}
	return NULL;
}

/* QUERY reports this for the page, and so does the oracle. */
#define SAYS(at, pgsize, flags) do {					\
	uint32_t __found = 0;						\
									\
	EXPECT_SOUND(oracle_says(self, at, pgsize, &__found));		\
	EXPECT_EQ(flags, __found);					\
	EXPECT_EQ(flags, said_of(self, at));				\
} while (0)

/* Pieces 1 to 5: assigned; smashed; 4K entries, one assigned; shared as 2M; the last page. */
static problem prepare(FIXTURE_DATA(query) *self)
{
	struct guest *guest = &self->guest;
	problem wrong = guest_assign(guest, PIECE(1), true);

	if (!wrong)
		wrong = guest_assign(guest, PIECE(2), true);
	if (!wrong)
		wrong = guest_smash(guest, PIECE(2));
	if (!wrong)
		wrong = guest_assign(guest, PIECE(3) + 9 * PAGE, false);
	if (!wrong)
		wrong = guest_assign(guest, PIECE(4), true);
	if (!wrong)
		wrong = guest_share(guest, PIECE(4), true);
	return wrong ? wrong : guest_assign(guest, PIECE(5) + MIB(2) - PAGE, false);
}

/* Where nothing follows, and the hook is not registered: the same entries, and the audit. */
TEST_F_TIMEOUT(query, nobody_follows, TIMEOUT)
{
	struct vfio_pgsize_stats stats = { .argsz = sizeof(stats) };

	ASSERT_SOUND(follow_ends());
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_EQ(0, ask(self, RMP | VFIO_PGSIZE_QUERY_MISMATCH, 0, SIZE));
	EXPECT_EQ(0, self->nr);
	ASSERT_SOUND(prepare(self));
	ASSERT_EQ(0, ask(self, RMP, 0, SIZE));
	SAYS(PIECE(1), MIB(2), RMP_2M | ASSIGNED);
	SAYS(PIECE(2), MIB(2), RMP_4K | ASSIGNED);
	SAYS(PIECE(5), MIB(2), RMP_4K | ASSIGNED);
	SAYS(PIECE(6), MIB(2), RMP_4K);
	ASSERT_EQ(0, ask(self, RMP | VFIO_PGSIZE_QUERY_STATE, 0, SIZE));
	SAYS(PIECE(2), MIB(2), RMP_4K | ASSIGNED);
	ASSERT_EQ(0, ask(self, VFIO_PGSIZE_QUERY_MISMATCH, 0, SIZE));
	EXPECT_EQ(2, self->nr);
	EXPECT_EQ(AT + PIECE(2), self->runs[0].iova);
	EXPECT_EQ(MIB(4), self->runs[0].size);
	EXPECT_EQ(AT + PIECE(5), self->runs[1].iova);
	EXPECT_EQ(MIB(2), self->runs[1].size);
	ASSERT_SOUND(follow_stats(&self->vmm, &stats));
	EXPECT_EQ(3, stats.mismatches);
	/* An audit reads the RMP, and no more. */
	EXPECT_FALSE(follow_is_hooked());
	EXPECT_EQ(0, follow_followers());
}

/* Leaves follow: those over a 2M entry are 2M. */
TEST_F_TIMEOUT(query, leaves_that_follow, TIMEOUT)
{
	uint32_t shared;

	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_EQ(0, ask(self, RMP, 0, SIZE));
	EXPECT_EQ(1, self->nr);
	SAYS(PIECE(2), MIB(2), RMP_4K);

	ASSERT_SOUND(prepare(self));
	ASSERT_EQ(0, ask(self, RMP, 0, SIZE));
	SAYS(PIECE(0), MIB(2), RMP_4K);
	SAYS(PIECE(1), MIB(2), RMP_2M | ASSIGNED);
	SAYS(PIECE(2), PAGE, RMP_4K | ASSIGNED);
	SAYS(PIECE(2) + 9 * PAGE, PAGE, RMP_4K | ASSIGNED);
	SAYS(PIECE(3), PAGE, RMP_4K);
	SAYS(PIECE(3) + 8 * PAGE, PAGE, RMP_4K);
	SAYS(PIECE(3) + 9 * PAGE, PAGE, RMP_4K | ASSIGNED);
	/* QUERY reports the entries of a 2M that is shared as a whole, whatever they are. */
	EXPECT_SOUND(oracle_says(self, PIECE(4), MIB(2), &shared));
	EXPECT_EQ(shared, said_of(self, PIECE(4)));
	EXPECT_EQ(0, shared & ASSIGNED);
	SAYS(PIECE(5), PAGE, RMP_4K);
	SAYS(PIECE(5) + MIB(2) - PAGE, PAGE, RMP_4K | ASSIGNED);
	SAYS(PIECE(6), MIB(2), RMP_4K);
	/* Runs: 0 | 1 | 2 | to page 9 | it | the rest | 4 | to the last | it | 6 and 7. */
	EXPECT_EQ(10, self->nr);
	/* Without the flag there is no RMP information, and more is joined: 0, 1 | 2, 3 | 4 | 5 | 6, 7. */
	ASSERT_EQ(0, ask(self, 0, 0, SIZE));
	EXPECT_EQ(0, said_of(self, PIECE(1)));
	EXPECT_EQ(5, self->nr);
	/* Nothing disagrees. */
	ASSERT_EQ(0, ask(self, RMP | VFIO_PGSIZE_QUERY_MISMATCH, 0, SIZE));
	EXPECT_EQ(0, self->nr);
}

/* 4K leaves over 2M entries: each reports its block's entry. */
TEST_F_TIMEOUT(query, small_leaves, TIMEOUT)
{
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, ONLY_4K));
	/* Something must follow. */
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE | FOLLOW, AT + SIZE,
				SIZE, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(prepare(self));
	ASSERT_EQ(0, ask(self, RMP, 0, SIZE));
	SAYS(PIECE(1), PAGE, RMP_2M | ASSIGNED);
	SAYS(PIECE(1) + 9 * PAGE, PAGE, RMP_2M | ASSIGNED);
	SAYS(PIECE(1) + MIB(2) - PAGE, PAGE, RMP_2M | ASSIGNED);
	SAYS(PIECE(2), PAGE, RMP_4K | ASSIGNED);
	SAYS(PIECE(3), PAGE, RMP_4K);
	SAYS(PIECE(3) + 9 * PAGE, PAGE, RMP_4K | ASSIGNED);
	SAYS(PIECE(7), PAGE, RMP_4K);
}

/* An audit that reports the RMP entries under a leaf that does not follow. */
TEST_F_TIMEOUT(query, audit, TIMEOUT)
{
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE | FOLLOW, AT + SIZE,
				SIZE, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(prepare(self));
	ASSERT_EQ(0, ask(self, RMP, 0, SIZE));
	SAYS(PIECE(2), MIB(2), RMP_4K | ASSIGNED);
	SAYS(PIECE(3), MIB(2), RMP_4K | ASSIGNED);
	SAYS(PIECE(5), MIB(2), RMP_4K | ASSIGNED);
	SAYS(PIECE(6), MIB(2), RMP_4K);
	ASSERT_EQ(0, ask(self, RMP | VFIO_PGSIZE_QUERY_MISMATCH, 0, SIZE));
	EXPECT_EQ(2, self->nr);
	EXPECT_EQ(MIB(4), self->runs[0].size);
	EXPECT_EQ(RMP_4K | ASSIGNED, said_of(self, PIECE(2)));
	EXPECT_EQ(RMP_4K | ASSIGNED, said_of(self, PIECE(5)));
	EXPECT_EQ(~0U, said_of(self, PIECE(1)));
}

/* A leaf of more than 2M has the flags of everything under it. */
TEST_F_TIMEOUT(query, large_leaf, TIMEOUT)
{
	struct memory memory = {};
	struct guest guest;

	if (memory_alloc(&memory, HUGETLB_1G, GIB(1)))
		SKIP(return, "no page of 1G");
	ASSERT_SOUND(guest_start(&guest, memory.va, MIB(16)));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE | FOLLOW,
				AT + SIZE, SIZE, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, memory.va, MIB(16), READ_WRITE));
	ASSERT_EQ(0, ask(self, RMP, 0, PAGE));
	EXPECT_EQ(MIB(16), self->runs[0].pgsize);
	EXPECT_EQ(RMP_4K, said_of(self, 0));
	ASSERT_SOUND(guest_assign(&guest, PIECE(1), true));
	ASSERT_EQ(0, ask(self, RMP, 0, PAGE));
	EXPECT_EQ(RMP_4K | RMP_2M | ASSIGNED, said_of(self, 0));
	ASSERT_SOUND(guest_share(&guest, PIECE(1), true));
	ASSERT_SOUND(guest_assign(&guest, PIECE(7) + MIB(2) - PAGE, false));
	ASSERT_EQ(0, ask(self, RMP, 0, PAGE));
	EXPECT_EQ(RMP_4K | ASSIGNED, said_of(self, 0) & ~RMP_2M);
	guest_stop(&guest);
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, MIB(16)));
	memory_free(&memory);
}

TEST_PROGRAM("QUERY says of each leaf what the RMP has under it.")
