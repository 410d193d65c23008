// SPDX-License-Identifier: GPL-2.0
/*
 * Each trace event occurs exactly when its cause does, with the container, the address, the size
 * and the frame.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "fail.h"
#include "follow.h"
#include "guest.h"
#include "harness.h"
#include "module.h"
#include "text.h"
#include "trace.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(16)
#define PIECE(i) ((i) * MIB(2))
#define RANGE	VFIO_PGSIZE_POLICY_RANGE

FIXTURE(trace) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
	unsigned long container;
};

/* The container's number, from the first policy. */
static problem container_of(unsigned long *container)
{
	char *text = text_read("/sys/kernel/tracing/trace");
	char *line = text ? strstr(text, "policy: container=") : NULL;
	bool found = line && sscanf(line, "policy: container=%lu", container) == 1;

	free(text);
	return found ? NULL : problem_is("no policy was traced");
}

FIXTURE_SETUP(trace)
{
	ASSERT_SOUND(module_require("reserve_tables=0"));
	ASSERT_SOUND(trace_start());
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, FOLLOW, UPTO_2M));
	ASSERT_SOUND(container_of(&self->container));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
}

FIXTURE_TEARDOWN(trace)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	guest_stop(&self->guest);
	memory_free(&self->memory);
	trace_stop();
	huge_pages_release();
}

static uint64_t pfn_of(FIXTURE_DATA(trace) *self, uint64_t at)
{
	uint64_t phys = 0;

	memory_phys(self->memory.va + at, 1, &phys);
	return phys / PAGE;
}

/* One event of a leaf. */
#define LEAF(what, at, bytes)								\
	EXPECT_SOUND(trace_has(what ": container=%lu iova=%#lx size=%#lx pfn=%#lx",	\
			       self->container, (uint64_t)(AT + (at)), (uint64_t)(bytes), \
			       pfn_of(self, at)))
/* None of this kind. */
static int any(const char *event)
{
	char *text = text_read("/sys/kernel/tracing/trace");
	bool found = !text || strstr(text, event);

	free(text);
	return found;
}

TEST_F_TIMEOUT(trace, policy, TIMEOUT)
{
	EXPECT_SOUND(trace_has("policy: container=%lu iova=0x0 size=0x0 pgsizes=%#lx flags=%#x",
			       self->container, (uint64_t)UPTO_2M, FOLLOW));
	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE, AT, MIB(4), ONLY_4K));
	EXPECT_SOUND(trace_has("policy: container=%lu iova=%#lx size=%#lx pgsizes=%#lx flags=%#x",
			       self->container, (uint64_t)AT, (uint64_t)MIB(4),
			       (uint64_t)ONLY_4K, RANGE));
	/* A refused policy emits none. */
	EXPECT_EQ(-EINVAL, policy_of_all(self->vmm.container, 0, MIB(2)));
	EXPECT_EQ(0, trace_count("pgsizes=0x200000 flags=0x0"));
	EXPECT_FALSE(any("split:"));
	EXPECT_FALSE(any("merge:"));
}

TEST_F_TIMEOUT(trace, split_and_merge, TIMEOUT)
{
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(3), true));
	EXPECT_FALSE(any("split:"));
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(3)));
	LEAF("split", PIECE(3), MIB(2));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(5) + 9 * PAGE, false));
	LEAF("split", PIECE(5), MIB(2));
	EXPECT_FALSE(any("merge:"));
	/* Page by page, so by the worker; and as a whole. */
	ASSERT_SOUND(guest_share_pages(&self->guest, PIECE(3), MIB(2)));
	LEAF("merge", PIECE(3), MIB(2));
	ASSERT_SOUND(guest_share(&self->guest, PIECE(5) + 9 * PAGE, false));
	ASSERT_SOUND(guest_share(&self->guest, PIECE(5), true));
	LEAF("merge", PIECE(5), MIB(2));
	EXPECT_FALSE(any("fallback:"));
	EXPECT_FALSE(any("repair:"));
	EXPECT_FALSE(any("mismatch:"));
}

TEST_F_TIMEOUT(trace, mismatch, TIMEOUT)
{
	struct vfio_pgsize_run runs[4];
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.flags = VFIO_PGSIZE_QUERY_MISMATCH,
		.iova = AT,
		.size = SIZE,
		.nr = 4,
		.runs = (uintptr_t)runs,
	};

	/* By an audit, of a range that does not follow. */
	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE, AT + PIECE(2), MIB(2), UPTO_2M));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(2) + PAGE, false));
	EXPECT_FALSE(any("mismatch:"));
	ASSERT_EQ(0, ioctl(self->vmm.container, VFIO_PGSIZE_QUERY, &query));
	LEAF("mismatch", PIECE(2), MIB(2));
	/* And after a missed call. */
	ASSERT_SOUND(guest_miss(&self->guest, true));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(4) + PAGE, false));
	LEAF("mismatch", PIECE(4), MIB(2));
	LEAF("split", PIECE(4), MIB(2));
	ASSERT_SOUND(guest_miss(&self->guest, false));
}

TEST_F_TIMEOUT(trace, fallback, TIMEOUT)
{
	if (!fail_is_there())
		SKIP(return, "the kernel injects no faults");
	ASSERT_SOUND(fail_prepare());
	ASSERT_SOUND(fail_assign(&self->guest, PIECE(6) + PAGE));
	LEAF("fallback", PIECE(6), MIB(2));
	EXPECT_SOUND(trace_has("repair: container=%lu iova=%#lx size=%#lx", self->container,
			       (uint64_t)(AT + PIECE(6)), (uint64_t)MIB(2)));
	EXPECT_FALSE(any("split:"));
}

TEST_PROGRAM("Trace events of policies and of leaves that follow the RMP.")
