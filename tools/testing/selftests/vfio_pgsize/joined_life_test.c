// SPDX-License-Identifier: GPL-2.0
/*
 * Joined mappings whose groups, policies, processes and VMM come and go.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "joined.h"

TEST_F_TIMEOUT(joined, groups_come_and_go, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;

	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT + MIB(2), self->memory.va + MIB(2), MIB(2)));
	ASSERT_SOUND(pieces_unmap(pieces, 512 + 64, 64));
	EXPECT_SOUND(pieces_agree(pieces));
	vmm_detach(&self->vmm, 0);
	ASSERT_SOUND(pieces_map(pieces, 0, 512 + 64, 64));
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT + MIB(2), self->memory.va + MIB(2), MIB(2)));
}

TEST_F_TIMEOUT(joined, last_group_detached, TIMEOUT)
{
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_EQ(0, module_unload());
}

/* Leaves are split and merged by policies, and pieces keep their bounds. */
TEST_F_TIMEOUT(joined, policies, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;

	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K));
	EXPECT_SOUND(pieces_are_small(pieces));
	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, UPTO_2M));
	EXPECT_SOUND(pieces_agree(pieces));
	/* A range that begins within a 2M, and no more. */
	ASSERT_EQ(0, policy_set(self->vmm.container,
				VFIO_PGSIZE_POLICY_RANGE | VFIO_PGSIZE_POLICY_APPLY, AT + MIB(3),
				PAGE, ONLY_4K));
	EXPECT_SOUND(pieces_are_small(pieces));
	ASSERT_EQ(0, policy_set(self->vmm.container,
				VFIO_PGSIZE_POLICY_RANGE | VFIO_PGSIZE_POLICY_APPLY |
				VFIO_PGSIZE_POLICY_INHERIT, AT + MIB(3), PAGE, 0));
	EXPECT_SOUND(pieces_agree(pieces));
	ASSERT_SOUND(pieces_unmap(pieces, 512, 64));
	EXPECT_SOUND(pieces_agree(pieces));
}

/* VFIO_UPDATE_VADDR makes a mapping of each piece: bounds and bytes stay. */
TEST_F_TIMEOUT(joined, update_vaddr, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;
	int container = self->vmm.container;
	uint64_t size = 0;

	ASSERT_EQ(0, dma_unmap(container, 0, &size,
			       VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL));
	EXPECT_EQ(pieces->nr_mapped * PAGE, size);
	pieces_separate(pieces);
	EXPECT_SOUND(pieces_agree(pieces));
	for (uint32_t page = 0, nr; page < pieces->nr; page += nr) {
		nr = 1;
		if (!pieces->pages[page].kind)
			continue;
		while (pieces->pages[page + nr].kind && !pieces->pages[page + nr].start)
			nr++;
		ASSERT_EQ(0, dma_map(container, AT + page * PAGE, self->memory.va + page * PAGE,
				     nr * PAGE, VFIO_DMA_MAP_FLAG_VADDR));
	}
	EXPECT_SOUND(pieces_agree(pieces));
	ASSERT_SOUND(pieces_unmap(pieces, 512 + 64, 64));
	/* What comes later is joined. */
	ASSERT_SOUND(pieces_map(pieces, 0, 512 + 64, 64));
	EXPECT_SOUND(pieces_agree(pieces));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + MIB(2), self->memory.va + MIB(2), MIB(2)));
}

/* What may be locked is locked, and not a page more. */
TEST_F_TIMEOUT(joined, memlock, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;
	bool failed;

	ASSERT_SOUND(account_limit(self->vmm.before.locked + pieces->nr_mapped + 1));
	/* Without CAP_IPC_LOCK it is another who pays: joined mappings of his own. */
	ASSERT_EQ(0, dma_map(self->vmm.container, AT + GIB(8), self->memory.va, PAGE,
			     READ_WRITE | pieces->flags));
	ASSERT_SOUND(pieces_map_may_fail(pieces, 0, 1, 1, &failed));
	EXPECT_TRUE(failed);
	EXPECT_EQ(-ENOMEM, dma_map(self->vmm.container, AT + GIB(8) + PAGE, self->memory.va + PAGE,
				   PAGE, READ_WRITE | pieces->flags));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT + GIB(8), PAGE));
	EXPECT_SOUND(pieces_agree(pieces));
}

/* Another process has joined mappings of its own, which outlive it. */
TEST_F_TIMEOUT(joined, another_process, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;
	uint32_t flags = READ_WRITE | pieces->flags;
	uint32_t mapped = pieces->nr_mapped;
	struct vfio_pgsize_stats before, now;
	uint64_t size = SIZE;
	pid_t child;
	int status;

	ASSERT_EQ(0, get_stats(self->vmm.container, &before));
	ASSERT_EQ(0, madvise(self->memory.va, SIZE, MADV_DONTFORK));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		uint8_t *va = mmap(self->memory.va, SIZE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

		/* The same addresses, and others' pages around it. */
		_exit(va == MAP_FAILED ||
		      dma_map(self->vmm.container, AT + PAGE, va + PAGE, PAGE, flags) ||
		      dma_map(self->vmm.container, AT + 4 * PAGE, va + 4 * PAGE, PAGE, flags) ||
		      dma_unmap_exactly(self->vmm.container, AT + MIB(2), MIB(2)));
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, get_stats(self->vmm.container, &now));
	EXPECT_EQ(before.joined_entries + 1, now.joined_entries);
	EXPECT_EQ(before.joined + 2 * PAGE - MIB(2), now.joined);
	/* This process pays for what it has itself. */
	EXPECT_SOUND(account_rose(&self->vmm.before, mapped - 512, mapped - 512 + 2));
	ASSERT_EQ(0, dma_unmap(self->vmm.container, AT, &size, 0));
	EXPECT_EQ((mapped - 512 + 2) * PAGE, size);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

/* --- the VMM is killed ---------------------------------------------------- */

static void be_killed(int ready)
{
	struct memory memory = {};
	struct pieces pieces;
	struct vmm vmm;

	if (memory_alloc(&memory, ANON_4K, MIB(32)) || vmm_open(&vmm, VFIO_TYPE1v2_IOMMU, 1) ||
	    pieces_start(&pieces, &vmm, VFIO_TYPE1v2_IOMMU, AT, MIB(32) / PAGE))
		_exit(1);
	pieces_kind(&pieces, memory.va, READ_WRITE);
	pieces_kind(&pieces, memory.va, VFIO_DMA_MAP_FLAG_READ);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	for (;;)
		if (pieces_random(&pieces))
			_exit(2);
}

TEST(killed_while_mapping)
{
	struct kernel_log log;
	struct account before;

	ASSERT_SOUND(module_require(JOIN_ON));
	ASSERT_SOUND(kernel_log_start(&log));
	ASSERT_SOUND(account_read(&before));
	for (int round = 0; round < 6; round++) {
		int ready[2], status;
		pid_t child;
		char byte;

		ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			be_killed(ready[1]);
		close(ready[1]);
		ASSERT_EQ(1, read(ready[0], &byte, 1));
		close(ready[0]);
		usleep(50000 + round * 7919);
		ASSERT_EQ(0, kill(child, SIGKILL));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status)) {
			TH_LOG("round %d: the VMM ended by itself, status %#x", round, status);
		}
		EXPECT_SOUND(account_settles(&before));
	}
	kernel_log_read(&log);
	EXPECT_STREQ("", log.bug);
	EXPECT_EQ(0, log.faults);
	kernel_log_stop(&log);
	EXPECT_SOUND(module_require_none());
}

TEST_PROGRAM("Joined mappings whose groups, policies, processes and VMM come and go.")
