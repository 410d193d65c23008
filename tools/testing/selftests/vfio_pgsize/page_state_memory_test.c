// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that comes and goes under a stateful mapping: holes are punched, huge pages split and
 * collapse, while some pages are shared. These keep their frames and their leaves; private pages are
 * really freed, and come back as new memory.
 */
#include <sys/mman.h>

#include "page_memory.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define START(backing) do {						\
	ASSERT_SOUND(memory_alloc(&self->memory, backing, SIZE));	\
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, SHARED)); \
} while (0)
#define SET(at, size, state)	ASSERT_SOUND(pages_set(&self->pages, at, size, state))
#define AGREE()			EXPECT_SOUND(pages_agree(&self->pages))
#define COPIES(from, to)						\
	EXPECT_SOUND(edu_copy(&self->vmm.devices[0].edu, AT + (from),	\
			      self->memory.va + (from), AT + (to), self->memory.va + (to), PAGE))

/* --- files, with holes ---------------------------------------------------- */

/* Private, punched, shared again: the device sees the file's new pages, not the old ones. */
TEST_F_TIMEOUT(page_memory, hole_in_memfd, TIMEOUT)
{
	uint8_t *va;

	START(MEMFD);
	va = self->memory.va;
	for (int round = 0; round < 3; round++) {
		uint64_t at = MIB(2) + round * KIB(64), size = PAGE << 2 * round;

		memset(va + at, 0xaa, size);
		SET(at, size, PRIVATE);
		ASSERT_EQ(0, madvise(va + at, size, MADV_REMOVE));
		AGREE();
		SET(at, size, SHARED);
		AGREE();
		EXPECT_EQ(0, va[at]);
		EXPECT_EQ(0, va[at + size - 1]);
		COPIES(at, 0);
		COPIES(0, at);
	}
	/* All of it, and back in an order that leaves no two neighbours contiguous. */
	SET(0, SIZE, PRIVATE);
	ASSERT_EQ(0, madvise(va, SIZE, MADV_REMOVE));
	AGREE();
	for (uint64_t page = 0; page < 64; page++)
		SET((page * 37 % 64) * PAGE, PAGE, SHARED);
	AGREE();
	SET(0, SIZE, SHARED);
	AGREE();
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, va, SIZE));
}

/* Punched while shared: the device keeps the old page until it becomes private. */
TEST_F_TIMEOUT(page_memory, hole_under_shared, TIMEOUT)
{
	struct edu *edu = &self->vmm.devices[0].edu;
	uint8_t *va, old[PAGE];

	START(MEMFD);
	va = self->memory.va;
	fill_with_pattern(va + MIB(2), PAGE);
	memcpy(old, va + MIB(2), PAGE);
	ASSERT_EQ(0, madvise(va + MIB(2), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, va[MIB(2)]);
	AGREE();
	/* It is shared already, and unchanged. */
	SET(MIB(2), PAGE, SHARED);
	SET(0, SIZE, SHARED);
	AGREE();
	EXPECT_SOUND(edu_fetch(edu, AT + MIB(2), PAGE));
	EXPECT_SOUND(edu_store(edu, AT, PAGE));
	EXPECT_EQ(0, memcmp(old, va, PAGE));
	SET(MIB(2), PAGE, PRIVATE);
	AGREE();
	SET(MIB(2), PAGE, SHARED);
	AGREE();
	COPIES(0, MIB(2));
}

/* The kernel counts free huge pages: a punched one is free if nobody pins it. */
TEST_F_TIMEOUT(page_memory, hugetlb_is_freed, TIMEOUT)
{
	long before;
	uint8_t *va;

	START(MEMFD_2M);
	va = self->memory.va;
	before = huge_pages_free(MIB(2));
	/* Pinned: no longer in the file, and not free. */
	SET(MIB(2) + PAGE, MIB(2) - PAGE, PRIVATE);
	AGREE();
	ASSERT_EQ(0, madvise(va + MIB(2), MIB(2), MADV_REMOVE));
	EXPECT_EQ(before, huge_pages_free(MIB(2)));
	SET(MIB(2), PAGE, PRIVATE);
	EXPECT_EQ(before + 1, huge_pages_free(MIB(2)));
	AGREE();
	/* In the other order. */
	SET(MIB(4), MIB(2), PRIVATE);
	EXPECT_EQ(before + 1, huge_pages_free(MIB(2)));
	ASSERT_EQ(0, madvise(va + MIB(4), MIB(2), MADV_REMOVE));
	EXPECT_EQ(before + 2, huge_pages_free(MIB(2)));
	AGREE();
	/* One page of a 2M is pinned, of new memory. */
	SET(MIB(4) + MIB(1), PAGE, SHARED);
	EXPECT_EQ(before + 1, huge_pages_free(MIB(2)));
	EXPECT_EQ(0, va[MIB(5)]);
	AGREE();
	SET(0, SIZE, SHARED);
	EXPECT_EQ(before, huge_pages_free(MIB(2)));
	AGREE();
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, va, SIZE));
}

/* --- transparent huge pages ----------------------------------------------- */

/* Freed and touched again around a page that stays shared. */
TEST_F_TIMEOUT(page_memory, thp_given_back_in_part, TIMEOUT)
{
	uint64_t stays = MIB(2) + KIB(256);
	uint8_t *va;

	START(THP);
	va = self->memory.va;
	SET(MIB(2), MIB(2), PRIVATE);
	SET(stays, PAGE, SHARED);
	fill_with_pattern(va + stays, PAGE);
	ASSERT_EQ(0, madvise(va + MIB(2), KIB(256), MADV_DONTNEED));
	ASSERT_EQ(0, madvise(va + stays + PAGE, MIB(2) - KIB(256) - PAGE, MADV_DONTNEED));
	AGREE();
	COPIES(stays, 0);
	COPIES(0, stays);
	SET(MIB(2), MIB(2), SHARED);
	AGREE();
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + MIB(2), va + MIB(2), MIB(2)));
}

/* Leaves of pinned pages never move, whether or not a collapse is refused. */
TEST_F_TIMEOUT(page_memory, thp_collapse, TIMEOUT)
{
	uint8_t *va;

	START(ANON_4K);
	va = self->memory.va;
	ASSERT_EQ(0, madvise(va, SIZE, MADV_HUGEPAGE));
	/* All pinned, then one page of it. */
	EXPECT_NE(0, madvise(va + MIB(2), MIB(2), MADV_COLLAPSE));
	AGREE();
	SET(MIB(2), MIB(2), PRIVATE);
	SET(MIB(3), PAGE, SHARED);
	EXPECT_NE(0, madvise(va + MIB(2), MIB(2), MADV_COLLAPSE));
	AGREE();
	COPIES(MIB(3), 0);
	/* None of it: there is a huge page now, and it gets a 2M leaf. */
	SET(MIB(3), PAGE, PRIVATE);
	ASSERT_EQ(0, madvise(va + MIB(2), MIB(2), MADV_COLLAPSE));
	SET(MIB(2), MIB(2), SHARED);
	AGREE();
	{
		struct leaves leaves = {};

		pages_leaves(&self->pages, &leaves);
		EXPECT_EQ(1, leaves_count_size(&leaves, MIB(2)));
		leaves_free(&leaves);
	}
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + MIB(2), va + MIB(2), MIB(2)));
}

static problem split_huge_pages(const uint8_t *va, uint64_t size)
{
	const char *path = "/sys/kernel/debug/split_huge_pages";
	FILE *file = fopen(path, "w");

	if (!file)
		return problem_is("%s: %m", path);
	fprintf(file, "%d,%p,%p", getpid(), va, va + size);
	fclose(file);		/* fails if a page was not split, which is tested below */
	return NULL;
}

/* The kernel may or may not split a huge page of which some is shared. */
TEST_F_TIMEOUT(page_memory, thp_split, TIMEOUT)
{
	uint8_t *va;

	START(THP);
	va = self->memory.va;
	/* The first 2M is pinned, of the second a page is, the third is free. */
	SET(MIB(2), MIB(2), PRIVATE);
	SET(MIB(3), PAGE, SHARED);
	SET(MIB(4), MIB(2), PRIVATE);
	ASSERT_SOUND(split_huge_pages(va, SIZE));
	AGREE();
	COPIES(MIB(3), 0);
	COPIES(0, MIB(3));
	/* 512 pages, still contiguous: a 2M leaf. */
	SET(0, SIZE, SHARED);
	AGREE();
	SET(MIB(4) + PAGE, PAGE, PRIVATE);
	ASSERT_EQ(0, madvise(va + MIB(4) + PAGE, PAGE, MADV_DONTNEED));
	SET(MIB(4) + PAGE, PAGE, SHARED);
	AGREE();
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, va, SIZE));
}

/* Memory of another kind replaces a private range. */
TEST_F_TIMEOUT(page_memory, replaced, TIMEOUT)
{
	uint8_t *va;

	START(HUGETLB_2M);
	va = self->memory.va;
	SET(MIB(2), MIB(4), PRIVATE);
	ASSERT_NE(MAP_FAILED, mmap(va + MIB(2), MIB(4), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	AGREE();
	SET(MIB(3), KIB(64), SHARED);
	AGREE();
	SET(0, SIZE, SHARED);
	AGREE();
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, va, SIZE));
	/* The device has the shared pages even after the process unmaps them. */
	ASSERT_EQ(0, munmap(va + MIB(2), MIB(4)));
	AGREE();
	SET(0, SIZE, PRIVATE);
	AGREE();
	EXPECT_SOUND(pages_batch_fails(&self->pages, CHANGES({ 0, MIB(2), SHARED },
							     { MIB(2), MIB(2), SHARED }),
				       EFAULT, 1));
	AGREE();
}

TEST_PROGRAM("Punches holes, splits and collapses memory while some of it is shared.")
