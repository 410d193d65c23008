// SPDX-License-Identifier: GPL-2.0
/*
 * Joined mappings have no other limit than the VMM's memory: what they take of the kernel's
 * is charged to its cgroup, and given back.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "module.h"
#include "pieces.h"
#include "text.h"
#include "units.h"

#define ROOT	"/sys/fs/cgroup"
#define GROUP	ROOT "/joined"

/* Each in a gigabyte of its own: an entry, and the bits of 32M. */
#define ENTRIES	512
#define BITS	KIB(2)

FIXTURE(charge) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(charge)
{
	ASSERT_SOUND(module_require(JOIN_ON));
	if (access(ROOT "/cgroup.procs", F_OK))
		ASSERT_EQ(0, mount("none", ROOT, "cgroup2", 0, NULL));
	ASSERT_SOUND(text_write(ROOT "/cgroup.subtree_control", "+memory"));
	ASSERT_EQ(0, mkdir(GROUP, 0755));
	ASSERT_SOUND(text_write(GROUP "/cgroup.procs", "0"));
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, PAGE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
}

FIXTURE_TEARDOWN(charge)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	EXPECT_SOUND(text_write(ROOT "/cgroup.procs", "0"));
	rmdir(GROUP);
}

/* Bytes of slabs that are charged to the group, page tables apart; -1: unknown. */
static long charged(void)
{
	char *text = text_read(GROUP "/memory.stat");
	char *line = text ? strstr(text, "\nslab_unreclaimable ") : NULL;
	long bytes = line ? strtol(line + strlen("\nslab_unreclaimable "), NULL, 10) : -1;

	free(text);
	return bytes;
}

TEST_F_TIMEOUT(charge, entries_and_bits, TIMEOUT)
{
	struct vfio_pgsize_stats stats;
	long before = charged(), taken;
	uint64_t size = 0;

	ASSERT_LT(0, before);
	for (int i = 0; i < ENTRIES; i++)
		ASSERT_SOUND(vmm_map(&self->vmm, (4 + i) * GIB(1), self->memory.va, PAGE,
				     READ_WRITE));
	ASSERT_EQ(0, get_stats(self->vmm.container, &stats));
	EXPECT_EQ(ENTRIES, stats.joined_entries);
	taken = charged() - before;
	TH_LOG("%ld bytes for each", taken / ENTRIES);
	EXPECT_LE((long)(ENTRIES * BITS), taken);
	/* What they have at most: see the admin-guide. The rest is the IOMMU driver's. */
	EXPECT_GE((long)(ENTRIES * (BITS + KIB(2))), taken);
	ASSERT_EQ(0, dma_unmap(self->vmm.container, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL));
	EXPECT_EQ(ENTRIES * PAGE, size);
	EXPECT_GE((long)(ENTRIES * BITS) / 8, charged() - before);
}

TEST_PROGRAM("Charges the kernel's memory of joined mappings to the VMM's cgroup.")
