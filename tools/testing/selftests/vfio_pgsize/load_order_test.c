// SPDX-License-Identifier: GPL-2.0
/*
 * vfio_iommu_type1 is loaded after vfio_pgsize, which serves its types: the log says so, and of
 * each container that vfio_iommu_type1 then takes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

#define TYPE1	"modprobe vfio_iommu_type1 allow_unsafe_interrupts=1"

FIXTURE(order) {
	struct kernel_log log;
};

FIXTURE_SETUP(order)
{
	ASSERT_SOUND(module_require_none());
	ASSERT_EQ(0, system(TYPE1));
	ASSERT_SOUND(module_load("serve_type1v2=1"));
	ASSERT_SOUND(kernel_log_start(&self->log));
}

/* As other tests want it. */
FIXTURE_TEARDOWN(order)
{
	kernel_log_stop(&self->log);
	EXPECT_SOUND(module_require_none());
	EXPECT_EQ(0, system(TYPE1));
}

/* Whether this has been logged so often since the machine started. */
static problem logged(struct kernel_log *log, const char *text, int times)
{
	lseek(log->fd, 0, SEEK_SET);
	log->wanted = text;
	log->seen = 0;
	kernel_log_read(log);
	if (log->seen != times)
		return problem_is("\"%s\" is logged %d times, not %d", text, log->seen, times);
	return NULL;
}

/* A container of this type. Whether vfio_pgsize serves it, and is asked first. */
static problem serves(unsigned long type, bool *ours)
{
	struct vmm vmm;
	problem wrong = vmm_open(&vmm, type, 1), at_end;

	if (wrong)
		return wrong;
	*ours = container_extension(vmm.container, VFIO_PGSIZE_IOMMU) > 0;
	at_end = vmm_close(&vmm);
	return wrong ? wrong : at_end;
}

#define SERVES(type, expected) do {					\
	bool __ours = !(expected);					\
									\
	ASSERT_SOUND(serves(type, &__ours));				\
	EXPECT_EQ(expected, __ours);					\
} while (0)

TEST_F_TIMEOUT(order, type1_later, TIMEOUT)
{
	char mine[128];

	/* Names of processes are not trusted. */
	ASSERT_EQ(0, prctl(PR_SET_NAME, "order\n"));
	snprintf(mine, sizeof(mine), "vfio_pgsize: process %d (order\\x5cn) sets a type that",
		 getpid());
	SERVES(VFIO_TYPE1v2_IOMMU, true);
	EXPECT_SOUND(logged(&self->log, mine, 0));
	for (int round = 1; round <= 2; round++) {
		ASSERT_EQ(0, system("rmmod vfio_iommu_type1"));
		SERVES(VFIO_TYPE1v2_IOMMU, true);
		EXPECT_SOUND(logged(&self->log, mine, 2 * (round - 1)));
		ASSERT_EQ(0, system(TYPE1));
		SERVES(VFIO_TYPE1v2_IOMMU, false);
		EXPECT_SOUND(logged(&self->log, mine, 2 * round - 1));
		SERVES(VFIO_TYPE1v2_IOMMU, false);
		EXPECT_SOUND(logged(&self->log, mine, 2 * round));
		/* These would not come to vfio_pgsize, or do. */
		SERVES(VFIO_TYPE1_IOMMU, false);
		SERVES(VFIO_PGSIZE_IOMMU, true);
		EXPECT_SOUND(logged(&self->log, mine, 2 * round));
	}
	/* Loaded after it, vfio_pgsize serves again, and watches no more. */
	ASSERT_SOUND(module_require_none());
	ASSERT_SOUND(module_load("serve_type1v2=1"));
	SERVES(VFIO_TYPE1v2_IOMMU, true);
	EXPECT_SOUND(logged(&self->log, mine, 4));
}

/* Unloading takes the lookout along. */
TEST_F_TIMEOUT(order, unloaded_meanwhile, TIMEOUT)
{
	self->log.wanted = "vfio_pgsize: vfio_iommu_type1 was loaded later";
	ASSERT_EQ(0, system("rmmod vfio_iommu_type1 && " TYPE1));
	kernel_log_read(&self->log);
	EXPECT_EQ(1, self->log.seen);
	SERVES(VFIO_TYPE1v2_IOMMU, false);
	ASSERT_SOUND(module_require_none());
	ASSERT_EQ(0, system("rmmod vfio_iommu_type1 && " TYPE1));
	SERVES(VFIO_TYPE1v2_IOMMU, false);
}

/* Without the parameters it does not concern vfio_pgsize. */
TEST_F_TIMEOUT(order, not_served, TIMEOUT)
{
	ASSERT_SOUND(module_require_none());
	ASSERT_SOUND(module_load(""));
	kernel_log_stop(&self->log);
	ASSERT_SOUND(kernel_log_start(&self->log));
	ASSERT_EQ(0, system("rmmod vfio_iommu_type1 && " TYPE1));
	SERVES(VFIO_TYPE1v2_IOMMU, false);
	self->log.wanted = "vfio_pgsize:";
	kernel_log_read(&self->log);
	EXPECT_EQ(0, self->log.seen);
}

TEST_PROGRAM("If vfio_iommu_type1 gets ahead of vfio_pgsize, the log says whom it serves.")
