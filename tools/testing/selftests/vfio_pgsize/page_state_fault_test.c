// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of a call fails in turn (fault injection of the debug kernel): a failed change has
 * no effect, and leaves, locked and pinned memory are exact. Each copy from and to userspace fails in
 * turn, too.
 */
#include <errno.h>
#include <unistd.h>

#include "fail_nth.h"
#include "harness.h"
#include "module.h"
#include "pages.h"
#include "state.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(8)

/* Maximum number of allocations of a call. */
#define MOST	20000

FIXTURE(page_fault) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
	int nth;	/* the file that selects the failing allocation of this thread */
};

FIXTURE_VARIANT(page_fault) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(page_fault, anon_4k) { .backing = ANON_4K };
FIXTURE_VARIANT_ADD(page_fault, hugetlb_2m) { .backing = HUGETLB_2M };
FIXTURE_VARIANT_ADD(page_fault, memfd) { .backing = MEMFD };

FIXTURE_SETUP(page_fault)
{
	ASSERT_SOUND(fail_nth_open(&self->nth));
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(page_fault)
{
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
	close(self->nth);
}

/*
 * Make a call whose n-th allocation fails. Put the completed changes into the model: all that the
 * call reports.
 */
static problem call_with_failure(FIXTURE_DATA(page_fault) *self, const struct change *changes,
				 uint32_t nr, int n, bool *has_failed)
{
	struct vfio_pgsize_state states[8];
	struct vfio_pgsize_stats stats;
	uint32_t done = nr;
	problem wrong;
	int ret;

	pages_changes(&self->pages, changes, nr, states);
	wrong = fail_nth(self->nth, n);
	if (wrong)
		return wrong;
	ret = set_state(self->vmm.container, states, &done);
	*has_failed = fail_nth_happened(self->nth);
	if (ret && !*has_failed)
		return problem_is("without a failure: %s, %u of %u done", strerror(-ret), done, nr);
	if (!ret && done != nr)
		return problem_is("success, and %u of %u are done", done, nr);
	if (ret && ret != -ENOMEM && ret != -EFAULT)
		return problem_is("allocation %d fails: %s", n, strerror(-ret));
	if (ret == -EFAULT && done == nr) {
		/* The request was not readable, or the answer not writable. */
		if (get_stats(self->vmm.container, &stats))
			return problem_is("GET_STATS: %m");
		if (stats.shared == self->pages.nr_shared * PAGE)
			done = 0;
	} else if (ret && done == nr) {
		return problem_is("allocation %d fails: %s, and all is done", n, strerror(-ret));
	}
	wrong = pages_note(&self->pages, changes, done);
	return wrong ? wrong : pages_agree_quickly(&self->pages);
}

/*
 * From the state that `before` makes to that of `changes`, failing at each allocation; each
 * attempt starts over.
 */
static problem fail_each(FIXTURE_DATA(page_fault) *self, const struct change *before, uint32_t nr_before,
			 const struct change *changes, uint32_t nr, int *failures)
{
	bool has_failed = true;

	for (int n = 1; has_failed && n < MOST; n++) {
		problem wrong = pages_batch(&self->pages, before, nr_before);

		if (!wrong)
			wrong = call_with_failure(self, changes, nr, n, &has_failed);
		if (wrong)
			return problem_is("failure %d: %s", n, wrong);
		*failures += has_failed;
	}
	/* Without a failure, all of it. */
	return has_failed ? problem_is("there is no end of allocations") :
		pages_agree(&self->pages);
}

#define FAIL_EACH(before, changes) do {						\
	int __failures = 0;							\
										\
	EXPECT_SOUND(fail_each(self, before, ARRAY_SIZE(before), changes,	\
			       ARRAY_SIZE(changes), &__failures));		\
	TH_LOG("%d allocations and copies failed", __failures);			\
	EXPECT_LT(0, __failures);						\
} while (0)

TEST_F_TIMEOUT(page_fault, share, 2 * TIMEOUT)
{
	static const struct change nothing[] = { { 0, SIZE, PRIVATE } };
	static const struct change some[] = {
		{ PAGE, PAGE, SHARED }, { MIB(2) - PAGE, KIB(16), SHARED }, { MIB(4), MIB(2), SHARED },
	};
	static const struct change all[] = { { 0, SIZE, SHARED } };

	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, PRIVATE));
	FAIL_EACH(nothing, some);
	FAIL_EACH(nothing, all);
	FAIL_EACH(some, all);
}

/* 2M leaves are split, which takes tables. */
TEST_F_TIMEOUT(page_fault, unshare, 2 * TIMEOUT)
{
	static const struct change all[] = { { 0, SIZE, SHARED } };
	static const struct change some[] = {
		{ PAGE, PAGE, PRIVATE }, { MIB(2) + KIB(64), MIB(2), PRIVATE },
		{ SIZE - PAGE, PAGE, PRIVATE },
	};
	static const struct change both[] = {
		{ MIB(1), PAGE, PRIVATE }, { MIB(1), PAGE, SHARED }, { MIB(4), MIB(2), PRIVATE },
		{ MIB(5), PAGE, SHARED },
	};

	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, SHARED));
	FAIL_EACH(all, some);
	FAIL_EACH(all, both);
}

/* --- map, and partial unmap: all or nothing --------------------------------- */

TEST_F_TIMEOUT(page_fault, map, 2 * TIMEOUT)
{
	static const uint32_t flags[] = {
		READ_WRITE | STATEFUL, READ_WRITE | STATEFUL | VFIO_PGSIZE_MAP_SHARED,
	};
	struct state before;

	ASSERT_SOUND(state_take(&self->vmm, &before));
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		bool has_failed = true;
		int n;

		for (n = 1; has_failed && n < MOST; n++) {
			int ret;

			ASSERT_SOUND(fail_nth(self->nth, n));
			ret = dma_map(self->vmm.container, AT, self->memory.va, SIZE, flags[i]);
			has_failed = fail_nth_happened(self->nth);
			if (ret) {
				EXPECT_TRUE(has_failed && (ret == -ENOMEM || ret == -EFAULT));
			} else {
				ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
			}
			ASSERT_SOUND(state_is(&self->vmm, &before));
		}
		EXPECT_FALSE(has_failed);
		EXPECT_LT(2, n);
	}
	state_free(&before);
}

TEST_F_TIMEOUT(page_fault, unmap_part, 2 * TIMEOUT)
{
	struct memory memory = self->memory;
	int container = self->vmm.container;
	struct state before;
	bool has_failed = true;
	int n, refused = 0;

	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	for (n = 1; has_failed && n < MOST; n++) {
		uint64_t size = MIB(4);
		int ret;

		ASSERT_SOUND(vmm_map(&self->vmm, AT, memory.va, SIZE, READ_WRITE));
		ASSERT_SOUND(state_take(&self->vmm, &before));
		ASSERT_SOUND(fail_nth(self->nth, n));
		ret = dma_unmap(container, AT + MIB(1), &size, 0);
		has_failed = fail_nth_happened(self->nth);
		if (ret == -ENOMEM || (ret == -EFAULT && account_rose(&before.account, -1024, -1024))) {
			EXPECT_SOUND(state_is(&self->vmm, &before));
			refused++;
		} else {
			EXPECT_TRUE(!ret || (has_failed && ret == -EFAULT));
			EXPECT_SOUND(account_rose(&before.account, -1024, -1024));
		}
		state_free(&before);
		size = SIZE;
		ASSERT_EQ(0, dma_unmap(container, AT, &size, 0));
		EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	}
	EXPECT_FALSE(has_failed);
	TH_LOG("refused %d times, of %d", refused, n);
	EXPECT_LT(0, refused);
}

/* --- a leaf of more than 2M, split at two ends ----------------------------------- */

/* One leaf; the unmapped part begins and ends within a 2M. */
#define LEAF	MIB(16)

/*
 * The first split succeeds, and the second does not: the leaf is whole again. Not each failed
 * allocation makes the call fail: the slab allocator has fallbacks.
 */
TEST_F_TIMEOUT(page_fault, cut_of_large_leaf, TIMEOUT)
{
	struct memory memory = {};
	int container = self->vmm.container;
	int refused = 0;
	bool hit = true;

	if (variant->backing != HUGETLB_2M)
		SKIP(return, "once is enough");
	if (memory_alloc(&memory, HUGETLB_1G, GIB(1)))
		SKIP(return, "no page of 1G");
	ASSERT_EQ(0, dma_map(container, AT, memory.va, LEAF, READ_WRITE));
	for (int n = 1; hit && n < MOST; n++) {
		uint64_t size = MIB(8);
		int ret;

		ASSERT_SOUND(fail_nth(self->nth, n));
		ret = dma_unmap(container, AT + MIB(1), &size, 0);
		hit = fail_nth_happened(self->nth);
		ASSERT_TRUE(!ret || ret == -ENOMEM || ret == -EFAULT);
		/* All is unchanged; or all is done, and at most the answer was not writable. */
		if (ret && !vmm_has_tiles(&self->vmm, AT, memory.va, LEAF, ANY_SIZE, READ_WRITE)) {
			refused++;
			continue;
		}
		ASSERT_NE(-ENOMEM, ret);
		if (!ret)
			EXPECT_EQ(MIB(8), size);
		ASSERT_SOUND(dma_unmap_exactly(container, AT, MIB(1)));
		ASSERT_SOUND(dma_unmap_exactly(container, AT + MIB(9), LEAF - MIB(9)));
		ASSERT_EQ(0, dma_map(container, AT, memory.va, LEAF, READ_WRITE));
	}
	EXPECT_FALSE(hit);
	/* At least a node for each piece, and a table at each end. */
	EXPECT_LE(4, refused);
	ASSERT_SOUND(dma_unmap_exactly(container, AT, LEAF));
	memory_free(&memory);
}

TEST_PROGRAM("Makes each allocation of the calls on page states fail in turn.")
