// SPDX-License-Identifier: GPL-2.0
/* Bad input to the calls of <linux/vfio_pgsize.h>. */
#include <fcntl.h>
#include <limits.h>
#include <sys/eventfd.h>

#include "input.h"

#define APPLY	VFIO_PGSIZE_POLICY_APPLY
#define RANGE	VFIO_PGSIZE_POLICY_RANGE
#define INHERIT	VFIO_PGSIZE_POLICY_INHERIT
#define TRACKING	VFIO_PGSIZE_POLICY_TRACKING
#define ON_SMASH_SPLIT	VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT
#define ON_WHOLE_MERGE	VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE

TEST_F_TIMEOUT(input, set_policy, TIMEOUT)
{
	struct vfio_pgsize_policy whole = {
		.argsz = sizeof(whole),
		.flags = APPLY,
		.pgsizes = ONLY_4K,
	};
	struct vfio_pgsize_policy range = {
		.argsz = sizeof(range),
		.flags = RANGE | APPLY,
		.iova = AT,
		.size = SIZE,
		.pgsizes = ONLY_4K,
	};
	struct vfio_pgsize_policy tracking = {
		.argsz = sizeof(tracking),
		.flags = TRACKING | APPLY,
		.pgsizes = ONLY_4K,
	};

	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, argsz, 0);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, argsz, sizeof(whole) - 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, flags, APPLY | 1 << 6);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, flags, ON_WHOLE_MERGE);
	/* Not an SNP host: there is nothing to follow. */
	WRONG(EOPNOTSUPP, VFIO_PGSIZE_SET_POLICY, whole, flags, ON_SMASH_SPLIT);
	WRONG(EOPNOTSUPP, VFIO_PGSIZE_SET_POLICY, range, flags, RANGE | APPLY | ON_SMASH_SPLIT);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, flags, APPLY | 1U << 31);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, flags, APPLY | INHERIT);
	WRONG2(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, flags, INHERIT, pgsizes, 0);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, iova, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, size, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, pgsizes, 0);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, pgsizes, MIB(2));
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, pgsizes, PAGE | 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, pgsizes, PAGE | KIB(2));
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, pgsizes, PAGE | 1ULL << 63);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, pgsizes, ~1ULL);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, argsz, sizeof(range) - 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, flags, RANGE | APPLY | 1 << 6);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, flags, RANGE | INHERIT | ON_SMASH_SPLIT);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, flags, RANGE | APPLY | INHERIT);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, flags, APPLY);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, iova, AT + 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, iova, AT + PAGE / 2);
	WRONG(EOVERFLOW, VFIO_PGSIZE_SET_POLICY, range, iova, EVERYWHERE);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, size, 0);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, size, PAGE + 1);
	WRONG(EOVERFLOW, VFIO_PGSIZE_SET_POLICY, range, size, EVERYWHERE);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, pgsizes, 0);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, pgsizes, MIB(2));
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, flags, RANGE | TRACKING);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, tracking, argsz, sizeof(tracking) - 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, tracking, flags, TRACKING | INHERIT);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, tracking, flags, TRACKING | ON_SMASH_SPLIT);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, tracking, iova, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, tracking, size, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, tracking, pgsizes, 0);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, tracking, pgsizes, MIB(2));
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, tracking, pgsizes, PAGE | 1);
	UNREADABLE(VFIO_PGSIZE_SET_POLICY, whole);
}

TEST_F_TIMEOUT(input, get_policy, TIMEOUT)
{
	struct vfio_pgsize_policy whole = { .argsz = sizeof(whole) };
	struct vfio_pgsize_policy tracking = { .argsz = sizeof(tracking), .flags = TRACKING };
	struct vfio_pgsize_policy range = {
		.argsz = sizeof(range),
		.flags = RANGE,
		.iova = AT,
	};

	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, whole, argsz, 0);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, whole, argsz, sizeof(whole) - 1);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, whole, flags, APPLY);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, whole, flags, INHERIT);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, whole, flags, 1 << 3);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, whole, iova, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, whole, size, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, whole, pgsizes, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, range, iova, AT + 1);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, range, size, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, range, pgsizes, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, tracking, flags, TRACKING | RANGE);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, tracking, iova, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, tracking, size, PAGE);
	WRONG(EINVAL, VFIO_PGSIZE_GET_POLICY, tracking, pgsizes, PAGE);
	UNREADABLE(VFIO_PGSIZE_GET_POLICY, range);

	/* Readable, but not writable for the answer. */
	void *read_only = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);

	ASSERT_NE(MAP_FAILED, read_only);
	memcpy(read_only, &range, sizeof(range));
	ASSERT_EQ(0, mprotect(read_only, PAGE, PROT_READ));
	REFUSED(EFAULT, self->vmm.container, VFIO_PGSIZE_GET_POLICY, read_only);
}

TEST_F_TIMEOUT(input, query, TIMEOUT)
{
	struct vfio_pgsize_run runs[4];
	struct vfio_pgsize_query good = {
		.argsz = sizeof(good),
		.iova = AT,
		.size = SIZE,
		.nr = ARRAY_SIZE(runs),
		.runs = (uintptr_t)runs,
	};
	uint8_t *edge = edge_of_memory();

	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, argsz, 0);
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, argsz, sizeof(good) - 1);
	WRONG(EOPNOTSUPP, VFIO_PGSIZE_QUERY, good, flags, VFIO_PGSIZE_QUERY_MISMATCH);
	WRONG(EOPNOTSUPP, VFIO_PGSIZE_QUERY, good, flags, VFIO_PGSIZE_QUERY_RMP);
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, flags,
	      VFIO_PGSIZE_QUERY_MISMATCH | VFIO_PGSIZE_QUERY_STATE);
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, flags, 1 << 3);
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, flags, 1U << 31);
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, iova, AT + 1);
	WRONG(EOVERFLOW, VFIO_PGSIZE_QUERY, good, iova, EVERYWHERE);
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, size, 0);
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, size, PAGE + 1);
	WRONG(EOVERFLOW, VFIO_PGSIZE_QUERY, good, size, EVERYWHERE);
	WRONG(ENOENT, VFIO_PGSIZE_QUERY, good, domain, 1);
	WRONG(ENOENT, VFIO_PGSIZE_QUERY, good, domain, ~0U);
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, nr, 0);
	WRONG(EFAULT, VFIO_PGSIZE_QUERY, good, runs, 0);
	WRONG(EFAULT, VFIO_PGSIZE_QUERY, good, runs, (uintptr_t)edge);
	WRONG(EFAULT, VFIO_PGSIZE_QUERY, good, runs, (uintptr_t)edge - sizeof(runs[0]));
	WRONG(EFAULT, VFIO_PGSIZE_QUERY, good, runs, 1ULL << 63);
	UNREADABLE(VFIO_PGSIZE_QUERY, good);
}

/* Any number of runs at a time gives the same leaves. */
TEST_F_TIMEOUT(input, query_in_pieces, TIMEOUT)
{
	for (uint32_t nr = 1; nr <= 3; nr++) {
		struct vfio_pgsize_run runs[3];
		struct vfio_pgsize_query query = {
			.argsz = sizeof(query),
			.size = EVERYWHERE,
			.runs = (uintptr_t)runs,
		};
		struct leaves found = {};

		for (int calls = 0; query.size && calls < 16; calls++) {
			query.nr = nr;
			ASSERT_EQ(0, ioctl(self->vmm.container, VFIO_PGSIZE_QUERY, &query));
			ASSERT_LE(query.nr, nr);
			for (uint32_t i = 0; i < query.nr; i++)
				leaves_add(&found, runs[i].iova, runs[i].size, runs[i].pgsize,
					   runs[i].flags);
		}
		EXPECT_EQ(0, query.size);
		EXPECT_SOUND(leaves_differ(&self->before.leaves, &found));
		leaves_free(&found);
	}
}

/* A leaf that crosses an end of the range is reported whole; holes are omitted. */
TEST_F_TIMEOUT(input, query_within_a_leaf, TIMEOUT)
{
	struct leaves found = {};

	ASSERT_SOUND(leaves_query(&found, self->vmm.container, 0, AT + MIB(3), PAGE));
	ASSERT_EQ(1, found.nr);
	EXPECT_EQ(AT + MIB(2), found.runs[0].iova);
	EXPECT_EQ(MIB(2), found.runs[0].size);
	EXPECT_EQ(MIB(2), found.runs[0].pgsize);
	leaves_free(&found);
	ASSERT_SOUND(leaves_query(&found, self->vmm.container, 0, AT + SIZE, GIB(1)));
	EXPECT_EQ(0, found.nr);
	ASSERT_SOUND(leaves_query(&found, self->vmm.container, 0, AT + PAGE, PAGE));
	ASSERT_EQ(1, found.nr);
	EXPECT_EQ(AT + PAGE, found.runs[0].iova);
	EXPECT_EQ(PAGE, found.runs[0].size);
	leaves_free(&found);
}

TEST_F_TIMEOUT(input, get_stats, TIMEOUT)
{
	const unsigned int before = offsetof(struct vfio_pgsize_stats, joined);
	struct vfio_pgsize_stats good = { .argsz = sizeof(good) };

	WRONG(EINVAL, VFIO_PGSIZE_GET_STATS, good, argsz, 0);
	WRONG(EINVAL, VFIO_PGSIZE_GET_STATS, good, argsz, before - 1);
	WRONG(EINVAL, VFIO_PGSIZE_GET_STATS, good, flags, 1);
	UNREADABLE(VFIO_PGSIZE_GET_STATS, good);

	/* A VMM that knows the first members only gets these, and no more. */
	good.argsz = before;
	good.joined = good.joined_entries = ~0ULL;
	ASSERT_EQ(0, ioctl(self->vmm.container, VFIO_PGSIZE_GET_STATS, &good));
	EXPECT_EQ(before, good.argsz);
	EXPECT_EQ(~0ULL, good.joined);
	EXPECT_EQ(~0ULL, good.joined_entries);
}

TEST_F_TIMEOUT(input, set_event, TIMEOUT)
{
	struct vfio_pgsize_event good = { .argsz = sizeof(good), .fd = eventfd(0, EFD_CLOEXEC) };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, good.fd);
	WRONG(EINVAL, VFIO_PGSIZE_SET_EVENT, good, argsz, 0);
	WRONG(EINVAL, VFIO_PGSIZE_SET_EVENT, good, argsz, sizeof(good) - 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_EVENT, good, flags, 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_EVENT, good, flags, 1U << 31);
	WRONG(EINVAL, VFIO_PGSIZE_SET_EVENT, good, reserved, 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_EVENT, good, fd, null);
	WRONG(EINVAL, VFIO_PGSIZE_SET_EVENT, good, fd, self->vmm.container);
	WRONG(EBADF, VFIO_PGSIZE_SET_EVENT, good, fd, -2);
	WRONG(EBADF, VFIO_PGSIZE_SET_EVENT, good, fd, INT_MIN);
	WRONG(EBADF, VFIO_PGSIZE_SET_EVENT, good, fd, INT_MAX);
	close(null);
	WRONG(EBADF, VFIO_PGSIZE_SET_EVENT, good, fd, null);
	UNREADABLE(VFIO_PGSIZE_SET_EVENT, good);
	EXPECT_EQ(0, ioctl(self->vmm.container, VFIO_PGSIZE_SET_EVENT, &good));
	close(good.fd);
}

TEST_PROGRAM("Bad input to the calls of vfio_pgsize: the documented error, and no change.")
