// SPDX-License-Identifier: GPL-2.0
/*
 * Bad input: each field of each call wrong in turn. The documented error comes
 * back, and nothing changes: no leaf, no policy, no page locked or pinned.
 */
#include <fcntl.h>
#include <sys/ioctl.h>

#include "harness.h"
#include "module.h"
#include "state.h"
#include "units.h"

#define AT	GIB(1)
#define SIZE	MIB(4)

#define APPLY	VFIO_PGSIZE_POLICY_APPLY
#define RANGE	VFIO_PGSIZE_POLICY_RANGE
#define INHERIT	VFIO_PGSIZE_POLICY_INHERIT
#define ON_SMASH_SPLIT	VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT
#define ON_WHOLE_MERGE	VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE

FIXTURE(input) {
	struct vmm vmm;
	struct memory memory;
	struct state before;
};

/* A mapping, and a range with a policy of its own within it. */
FIXTURE_SETUP(input)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE, AT, PAGE, ONLY_4K));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(state_take(&self->vmm, &self->before));
	ASSERT_EQ(512, leaves_count_size(&self->before.leaves, PAGE));
	ASSERT_EQ(1, leaves_count_size(&self->before.leaves, MIB(2)));
}

FIXTURE_TEARDOWN(input)
{
	state_free(&self->before);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* The call fails so, and nothing has changed. */
#define REFUSED(error, container, request, arg) do {				\
	int __ret = ioctl(container, request, arg);				\
										\
	EXPECT_EQ(-1, __ret);							\
	if (__ret < 0)								\
		EXPECT_EQ(error, errno);					\
	EXPECT_SOUND(state_is(&self->vmm, &self->before));			\
} while (0)

/* One field of a good request set to a bad value. */
#define WRONG(error, request, good, field, value) do {				\
	__typeof__(good) __wrong = good;					\
										\
	__wrong.field = value;							\
	TH_LOG("%s: %s = %s", #request, #field, #value);			\
	REFUSED(error, self->vmm.container, request, &__wrong);			\
} while (0)

/* Two fields that do not go together. */
#define WRONG2(error, request, good, field, value, field2, value2) do {		\
	__typeof__(good) __good2 = good;					\
										\
	__good2.field2 = value2;						\
	WRONG(error, request, __good2, field, value);				\
} while (0)

/* An argument that the kernel can not read or not write, whole or in part. */
static uint8_t *edge_of_memory(void)
{
	uint8_t *va = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);

	if (va == MAP_FAILED || munmap(va + PAGE, PAGE))
		abort();
	return va + PAGE;
}

#define UNREADABLE(request, good) do {						\
	uint8_t *__edge = edge_of_memory();					\
	uint8_t *__part = __edge - sizeof(good) / 2 / 8 * 8;			\
										\
	memcpy(__part, &(good), __edge - __part);				\
	REFUSED(EFAULT, self->vmm.container, request, NULL);			\
	REFUSED(EFAULT, self->vmm.container, request, __edge);			\
	REFUSED(EFAULT, self->vmm.container, request, __part);			\
	REFUSED(EFAULT, self->vmm.container, request, (void *)(1UL << 63));	\
	munmap(__edge - PAGE, PAGE);						\
} while (0)

TEST_F_TIMEOUT(input, map, TIMEOUT)
{
	struct vfio_iommu_type1_dma_map good = {
		.argsz = sizeof(good),
		.flags = READ_WRITE,
		.vaddr = (uintptr_t)self->memory.va,
		.iova = GIB(2),
		.size = SIZE,
	};

	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, argsz, 0);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, argsz, sizeof(good) - 1);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, 0);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | 1 << 3);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | 1U << 31);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | VFIO_DMA_MAP_FLAG_VADDR);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, vaddr, good.vaddr + 8);
	WRONG(EFAULT, VFIO_IOMMU_MAP_DMA, good, vaddr, 0);
	WRONG(EFAULT, VFIO_IOMMU_MAP_DMA, good, vaddr, 0xffff888000000000);
	WRONG(EOVERFLOW, VFIO_IOMMU_MAP_DMA, good, vaddr, EVERYWHERE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, iova, GIB(2) + 1);
	WRONG(EOVERFLOW, VFIO_IOMMU_MAP_DMA, good, iova, EVERYWHERE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, iova, 0xfee00000);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, iova, 0xfec00000);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT + SIZE - PAGE);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT - SIZE + PAGE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, size, 0);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, size, PAGE - 1);
	WRONG(EOVERFLOW, VFIO_IOMMU_MAP_DMA, good, size, ~0ULL);
	UNREADABLE(VFIO_IOMMU_MAP_DMA, good);
}

TEST_F_TIMEOUT(input, unmap, TIMEOUT)
{
	struct vfio_iommu_type1_dma_unmap good = {
		.argsz = sizeof(good),
		.iova = AT,
		.size = SIZE,
	};

	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, argsz, 0);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, argsz, sizeof(good) - 1);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, 1 << 3);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, 1U << 31);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, VFIO_DMA_UNMAP_FLAG_ALL);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, iova, AT + 1);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, iova, AT + PAGE);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, iova, AT - PAGE);
	WRONG(EOVERFLOW, VFIO_IOMMU_UNMAP_DMA, good, iova, EVERYWHERE);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, size, 0);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, size, SIZE - 1);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, size, SIZE - PAGE);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, size, ~0ULL);
	WRONG(EOVERFLOW, VFIO_IOMMU_UNMAP_DMA, good, size, EVERYWHERE);
	UNREADABLE(VFIO_IOMMU_UNMAP_DMA, good);
}

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

	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, argsz, 0);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, argsz, sizeof(whole) - 1);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, flags, APPLY | 1 << 5);
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, whole, flags, ON_WHOLE_MERGE);
	/* No SNP host: there is nothing to follow. */
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
	WRONG(EINVAL, VFIO_PGSIZE_SET_POLICY, range, flags, RANGE | APPLY | 1 << 5);
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
	UNREADABLE(VFIO_PGSIZE_SET_POLICY, whole);
}

TEST_F_TIMEOUT(input, get_policy, TIMEOUT)
{
	struct vfio_pgsize_policy whole = { .argsz = sizeof(whole) };
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
	UNREADABLE(VFIO_PGSIZE_GET_POLICY, range);

	/* Readable, but there is nowhere to write the answer. */
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
	WRONG(EINVAL, VFIO_PGSIZE_QUERY, good, flags, 1 << 1);
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

/* A leaf that straddles an end of the range is reported whole; holes are left out. */
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

TEST_F_TIMEOUT(input, get_info, TIMEOUT)
{
	struct vfio_iommu_type1_info good = { .argsz = sizeof(good) };

	WRONG(EINVAL, VFIO_IOMMU_GET_INFO, good, argsz, 0);
	WRONG(EINVAL, VFIO_IOMMU_GET_INFO, good, argsz,
	      offsetof(struct vfio_iommu_type1_info, iova_pgsizes));
	UNREADABLE(VFIO_IOMMU_GET_INFO, good);
}

TEST_F_TIMEOUT(input, get_stats, TIMEOUT)
{
	struct vfio_pgsize_stats good = { .argsz = sizeof(good) };

	WRONG(EINVAL, VFIO_PGSIZE_GET_STATS, good, argsz, 0);
	WRONG(EINVAL, VFIO_PGSIZE_GET_STATS, good, argsz, sizeof(good) - 1);
	WRONG(EINVAL, VFIO_PGSIZE_GET_STATS, good, flags, 1);
	UNREADABLE(VFIO_PGSIZE_GET_STATS, good);
}

TEST_F_TIMEOUT(input, unknown_calls, TIMEOUT)
{
	char room[256] = { sizeof(room) - 1 };

	REFUSED(ENOTTY, self->vmm.container, _IO(VFIO_TYPE, VFIO_BASE + 99), room);
	REFUSED(ENOTTY, self->vmm.container, _IO(VFIO_TYPE, VFIO_BASE + 155), room);
	REFUSED(EINVAL, self->vmm.container, VFIO_SET_IOMMU, VFIO_PGSIZE_IOMMU);
}

/* --- no container to speak of -------------------------------------------- */

TEST(no_group)
{
	struct vfio_pgsize_policy policy = { .argsz = sizeof(policy), .pgsizes = ONLY_4K };
	struct vfio_pgsize_query query = { .argsz = sizeof(query), .size = PAGE, .nr = 1 };
	char room[PAGE];
	int container, null;

	ASSERT_SOUND(module_require(""));
	container = container_open();
	ASSERT_LE(0, container);
	EXPECT_EQ(VFIO_PGSIZE_VERSION, container_extension(container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(-EINVAL, container_set_type(container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(-EINVAL, dma_map(container, AT, room, PAGE, READ_WRITE));
	EXPECT_EQ(-EINVAL, policy_of_all(container, 0, ONLY_4K));
	EXPECT_EQ(-1, ioctl(container, VFIO_PGSIZE_GET_POLICY, &policy));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(container, VFIO_PGSIZE_QUERY, &query));
	EXPECT_EQ(EINVAL, errno);
	close(container);

	null = open("/dev/null", O_RDWR);
	EXPECT_EQ(-ENOTTY, policy_of_all(null, 0, ONLY_4K));
	EXPECT_EQ(-1, ioctl(null, VFIO_PGSIZE_QUERY, &query));
	EXPECT_EQ(ENOTTY, errno);
	close(null);
	EXPECT_EQ(-EBADF, policy_of_all(null, 0, ONLY_4K));
}

/* The calls are the container's: its group and its device do not know them. */
TEST_F_TIMEOUT(input, wrong_descriptor, TIMEOUT)
{
	struct vfio_pgsize_policy policy = { .argsz = sizeof(policy), .pgsizes = ONLY_4K };
	int group = self->vmm.devices[0].group, device = self->vmm.devices[0].edu.device;

	EXPECT_EQ(-1, ioctl(group, VFIO_PGSIZE_SET_POLICY, &policy));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(device, VFIO_PGSIZE_SET_POLICY, &policy));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_SOUND(state_is(&self->vmm, &self->before));
}

TEST(wrong_type)
{
	char bdf[BDF_SIZE];
	int container, group;

	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(edu_find(0, bdf));
	container = container_open();
	group = group_open(bdf);
	ASSERT_LE(0, container);
	ASSERT_LE(0, group);
	ASSERT_EQ(0, group_join(group, container));
	EXPECT_EQ(-ENODEV, container_set_type(container, 0x7fffff00));
	EXPECT_EQ(-EINVAL, policy_of_all(container, 0, ONLY_4K));
	EXPECT_EQ(0, container_set_type(container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(0, policy_of_all(container, 0, ONLY_4K));
	close(group);
	close(container);
}

TEST_PROGRAM("Gives each call each kind of bad input and checks that nothing changes.")
