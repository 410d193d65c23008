// SPDX-License-Identifier: GPL-2.0
/*
 * Stateful mappings whose groups, processes and VMM come and go: a group that joins later gets only
 * the shared pages, and nothing is left behind.
 */
#include <sys/wait.h>

#include "harness.h"
#include "kill.h"
#include "module.h"
#include "pages.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(8)

FIXTURE(page_life) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
};

FIXTURE_SETUP(page_life)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, PRIVATE));
	ASSERT_SOUND(pages_batch(&self->pages, CHANGES({ 0, MIB(4), SHARED },
						       { MIB(1), PAGE, PRIVATE },
						       { MIB(5), KIB(64), SHARED })));
	ASSERT_SOUND(pages_agree(&self->pages));
}

FIXTURE_TEARDOWN(page_life)
{
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

TEST_F_TIMEOUT(page_life, groups_come_and_go, TIMEOUT)
{
	uint8_t *va = self->memory.va;

	for (int round = 0; round < 3; round++) {
		ASSERT_SOUND(vmm_attach(&self->vmm, 1));
		EXPECT_SOUND(pages_agree(&self->pages));
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT + MIB(3), va + MIB(3), MIB(1)));
		/* With two groups, both see changes. */
		ASSERT_SOUND(pages_set(&self->pages, MIB(2) + round * PAGE, PAGE, PRIVATE));
		ASSERT_SOUND(pages_set(&self->pages, MIB(6), (round + 1) * KIB(512), SHARED));
		EXPECT_SOUND(pages_agree(&self->pages));
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT + MIB(6), va + MIB(6), KIB(512)));
		vmm_detach(&self->vmm, 1);
		EXPECT_SOUND(pages_agree(&self->pages));
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + MIB(6), va + MIB(6), KIB(512)));
	}
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, AT + MIB(2)));
	/* The first group leaves, the second stays, and pages change. */
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(pages_agree(&self->pages));
	ASSERT_SOUND(pages_set(&self->pages, 0, SIZE, SHARED));
	ASSERT_SOUND(pages_set(&self->pages, MIB(3), MIB(2), PRIVATE));
	EXPECT_SOUND(pages_agree(&self->pages));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT, va, MIB(3)));
}

/* The last group removes everything: nothing is shared, since nothing is mapped. */
TEST_F_TIMEOUT(page_life, last_group_detached, TIMEOUT)
{
	struct vfio_pgsize_state change = { AT, PAGE, SHARED };
	uint32_t nr = 1;

	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_EQ(-EINVAL, set_state(self->vmm.container, &change, &nr));
	EXPECT_EQ(0, module_unload());
}

/* Another process may make pages private, but not share any. */
TEST_F_TIMEOUT(page_life, another_process, TIMEOUT)
{
	struct account own = { .pinned = self->vmm.before.pinned };
	pid_t child;
	int status;

	/* Otherwise fork copies the pinned pages, and there are no more of these. */
	ASSERT_EQ(0, madvise(self->memory.va, SIZE, MADV_DONTFORK));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		uint64_t shared = self->pages.nr_shared;
		problem wrong;

		wrong = pages_batch_fails(&self->pages, CHANGES({ MIB(2), PAGE, PRIVATE },
								{ MIB(6), PAGE, SHARED }), EPERM, 1);
		if (!wrong)
			wrong = account_rose(&own, 0, shared - 1);
		if (wrong)
			fprintf(stderr, "# the child: %s\n", wrong);
		_exit(!!wrong);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	/* The child's model is gone with it. */
	ASSERT_SOUND(pages_note(&self->pages, CHANGES({ MIB(2), PAGE, PRIVATE })));
	EXPECT_SOUND(pages_agree(&self->pages));
	ASSERT_SOUND(pages_set(&self->pages, 0, MIB(6) + PAGE, SHARED));
	EXPECT_SOUND(pages_agree(&self->pages));
}

/* The process that mapped exits: shared pages stay shared, and others can make them private. */
TEST_F_TIMEOUT(page_life, mapper_is_gone, TIMEOUT)
{
	struct vfio_pgsize_state changes[] = {
		{ GIB(8) + PAGE, PAGE, PRIVATE }, { GIB(8) + 9 * PAGE, PAGE, SHARED },
	};
	long shared = self->pages.nr_shared;
	struct vfio_pgsize_stats stats;
	uint32_t nr = 2;
	pid_t child;
	int status;

	ASSERT_EQ(0, madvise(self->memory.va, SIZE, MADV_DONTFORK));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct pages pages;
		struct memory memory = {};

		_exit(memory_alloc(&memory, ANON_4K, MIB(2)) ||
		      pages_map(&pages, &self->vmm, GIB(8), &memory, UPTO_2M, PRIVATE) ||
		      pages_set(&pages, 0, KIB(32), SHARED));
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_SOUND(account_rose(&self->vmm.before, shared, shared + 8));
	EXPECT_SOUND(edu_fetch(&self->vmm.devices[0].edu, GIB(8), PAGE));
	EXPECT_EQ(-EPERM, set_state(self->vmm.container, changes, &nr));
	EXPECT_EQ(1, nr);
	EXPECT_SOUND(account_rose(&self->vmm.before, shared, shared + 7));
	ASSERT_EQ(0, get_stats(self->vmm.container, &stats));
	EXPECT_EQ((shared + 7) * PAGE, stats.shared);
	EXPECT_EQ(SIZE + MIB(2), stats.stateful);
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, GIB(8), MIB(2)));
	EXPECT_SOUND(pages_agree(&self->pages));
}

/* --- the VMM is killed ---------------------------------------------------- */

/* Converts pages at random until it is killed. */
static void convert(void *arg, int ready)
{
	struct vfio_pgsize_state changes[64];
	struct memory memory = {};
	unsigned int seed = 1;
	struct vmm vmm;

	if (memory_alloc(&memory, ANON_4K, MIB(16)) || vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1) ||
	    dma_map(vmm.container, AT, memory.va, memory.size, READ_WRITE | STATEFUL) ||
	    !kill_when_ready(ready))
		_exit(1);
	for (;;) {
		uint32_t nr = ARRAY_SIZE(changes);

		for (uint32_t i = 0; i < nr; i++) {
			uint64_t size = PAGE << rand_r(&seed) % 10;

			changes[i] = (struct vfio_pgsize_state){
				AT + rand_r(&seed) % (memory.size / size) * size, size,
				rand_r(&seed) % 2 ? SHARED : PRIVATE,
			};
		}
		if (set_state(vmm.container, changes, &nr))
			_exit(2);
	}
}

FIXTURE(page_killed) {
	struct kernel_log log;
	struct account before;
};

FIXTURE_SETUP(page_killed)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(kernel_log_start(&self->log));
	ASSERT_SOUND(account_read(&self->before));
}

FIXTURE_TEARDOWN(page_killed)
{
	EXPECT_SOUND(kernel_log_end(&self->log));
}

TEST_F_TIMEOUT(page_killed, while_converting, 2 * TIMEOUT)
{
	for (int round = 0; round < 12; round++) {
		ASSERT_SOUND(kill_at_work(convert, NULL, 50000 + round * 7919));
		EXPECT_SOUND(account_settles(&self->before));
	}
	EXPECT_SOUND(module_require_none());
}

TEST_PROGRAM("Stateful mappings whose groups, processes and VMM come and go.")
