// SPDX-License-Identifier: GPL-2.0
/*
 * The negative control: the same machine without SNP, and one that has it, but where nothing
 * has enabled it, since ccp is not loaded: RMPREAD is an invalid opcode there. Nobody can
 * assign a page, large leaves work everywhere, and there is no event.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "follow.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(4)
#define SIZE	MIB(64)

static bool processor_has_snp(void)
{
	return !system("grep -qw sev_snp /proc/cpuinfo");
}

TEST(no_snp_host)
{
	if (processor_has_snp())
		SKIP(return, "this processor has SNP");
	EXPECT_NE(0, system(". /lib/vm.sh && load_snp_host"));
}

TEST(never_on)
{
	if (!processor_has_snp())
		SKIP(return, "this processor has no SNP");
	EXPECT_EQ(0, system("dmesg | grep -q 'IOMMU SNP support enabled'"));
	EXPECT_NE(0, access("/sys/module/ccp", F_OK));
}

TEST(dma_works)
{
	struct memory memory = {};
	struct vmm vmm;

	ASSERT_SOUND(memory_alloc(&memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_SOUND(vmm_map(&vmm, AT, memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&vmm, AT, memory.va, SIZE, ANY_SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&vmm, 0, AT, memory.va, SIZE));
	EXPECT_EQ(0, vmm.log.rmp_faults);
	/* Proof that the log is read: it shows a fault of the other kind. */
	EXPECT_SOUND(vmm_fetch_faults(&vmm, 0, AT + SIZE));
	EXPECT_EQ(0, vmm.log.rmp_faults);
	EXPECT_SOUND(vmm_close(&vmm));
	memory_free(&memory);
	huge_pages_release();
}

/* QUERY of all memory with these flags: 0 or -errno. */
static int query(struct vmm *vmm, uint32_t flags)
{
	struct vfio_pgsize_run run;
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.flags = flags,
		.iova = AT,
		.size = SIZE,
		.nr = 1,
		.runs = (uintptr_t)&run,
	};

	return ioctl(vmm->container, VFIO_PGSIZE_QUERY, &query) ? -errno : 0;
}

/* There is nothing to follow, and everything else works. */
TEST(nothing_to_follow)
{
	struct vfio_pgsize_policy policy;
	struct vfio_pgsize_stats stats;
	struct memory memory = {};
	struct vmm vmm;

	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1));
	EXPECT_EQ(-EOPNOTSUPP, policy_of_all(vmm.container, SPLIT, ANY_SIZE));
	EXPECT_EQ(-EOPNOTSUPP, policy_of_all(vmm.container, FOLLOW, ANY_SIZE));
	EXPECT_EQ(-EOPNOTSUPP, policy_set(vmm.container, VFIO_PGSIZE_POLICY_RANGE | SPLIT, AT,
					  SIZE, ANY_SIZE));
	EXPECT_EQ(-EINVAL, policy_of_all(vmm.container, MERGE, ANY_SIZE));
	EXPECT_FALSE(follow_is_hooked());
	ASSERT_EQ(0, policy_get(vmm.container, &policy, 0, 0));
	EXPECT_EQ(0, policy.flags & FOLLOW);
	ASSERT_SOUND(vmm_map(&vmm, AT, memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&vmm, AT, memory.va, SIZE, ANY_SIZE, READ_WRITE));
	EXPECT_EQ(-EOPNOTSUPP, query(&vmm, VFIO_PGSIZE_QUERY_MISMATCH));
	EXPECT_EQ(-EOPNOTSUPP, query(&vmm, VFIO_PGSIZE_QUERY_RMP));
	EXPECT_EQ(0, query(&vmm, 0));
	EXPECT_EQ(-EOPNOTSUPP, policy_of_all(vmm.container, SPLIT | VFIO_PGSIZE_POLICY_APPLY,
					     UPTO_2M));
	EXPECT_SOUND(vmm_has_tiles(&vmm, AT, memory.va, SIZE, ANY_SIZE, READ_WRITE));
	ASSERT_SOUND(vmm_policy(&vmm, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K));
	EXPECT_SOUND(vmm_has_tiles(&vmm, AT, memory.va, SIZE, ONLY_4K, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&vmm, 0, AT, memory.va, SIZE));
	ASSERT_SOUND(follow_stats(&vmm, &stats));
	EXPECT_EQ(0, stats.splits | stats.merges | stats.fallbacks | stats.repairs);
	EXPECT_SOUND(vmm_close(&vmm));
	memory_free(&memory);
	huge_pages_release();
}

/*
 * On an SNP host where SNP is off, leaves that are to follow by default are of 4K: it can be
 * switched on later. On any other host they are as large as they can be.
 */
TEST(nothing_to_follow_by_default)
{
	uint64_t sizes = processor_has_snp() ? ONLY_4K : ANY_SIZE;
	struct vfio_pgsize_policy policy;
	struct memory memory = {};
	struct kernel_log log;
	struct vmm vmm;

	ASSERT_SOUND(kernel_log_start(&log));
	log.wanted = "leaves cannot follow the RMP (EOPNOTSUPP), and are of 4K";
	ASSERT_SOUND(module_require("serve_type1v2=1 default_follow=1"));
	ASSERT_SOUND(memory_alloc(&memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&vmm, VFIO_TYPE1v2_IOMMU, 1));
	kernel_log_read(&log);
	EXPECT_EQ(processor_has_snp(), log.seen);
	EXPECT_FALSE(follow_is_hooked());
	ASSERT_EQ(0, policy_get(vmm.container, &policy, 0, 0));
	EXPECT_EQ(sizes, policy.pgsizes);
	EXPECT_EQ(0, policy.flags);
	ASSERT_SOUND(vmm_map(&vmm, AT, memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_has_tiles(&vmm, AT, memory.va, SIZE, sizes, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&vmm, 0, AT, memory.va, SIZE));
	EXPECT_SOUND(vmm_close(&vmm));
	kernel_log_stop(&log);
	memory_free(&memory);
	huge_pages_release();
}

TEST_PROGRAM("The machine without SNP: no page can be assigned, and no DMA faults.")
