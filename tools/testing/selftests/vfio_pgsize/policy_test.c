// SPDX-License-Identifier: GPL-2.0
/*
 * The page-size policy: of the container and of ranges, set before mapping and applied afterwards, of
 * groups that are attached later, and of another device's memory.
 */
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(16)

#define APPLY	VFIO_PGSIZE_POLICY_APPLY
#define RANGE	VFIO_PGSIZE_POLICY_RANGE
#define INHERIT	VFIO_PGSIZE_POLICY_INHERIT

FIXTURE(policy) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(policy)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(policy)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* The expected leaves of consecutive parts of the memory, from its start. */
struct part {
	uint64_t size;
	uint64_t sizes;
};

static problem has_parts(struct vmm *vmm, struct memory *memory, const struct part *parts)
{
	struct leaves expected = {};
	uint64_t at = 0;
	problem wrong = NULL;

	for (; !wrong && parts->size; at += parts->size, parts++)
		wrong = leaves_tile(&expected, AT + at, memory->va + at, parts->size,
				    parts->sizes & vmm->sizes, READ_WRITE);
	if (!wrong)
		wrong = vmm_has_leaves(vmm, &expected);
	leaves_free(&expected);
	return wrong;
}

#define PARTS(...)	((const struct part[]) { __VA_ARGS__, {} })

static problem policy_at_is(int container, uint64_t iova, uint64_t pgsizes, uint64_t size,
			    int inherited)
{
	struct vfio_pgsize_policy policy;
	int ret = policy_get(container, &policy, RANGE, iova);

	if (ret)
		return problem_is("GET_POLICY at %#lx: %s", iova, strerror(-ret));
	if (policy.pgsizes != pgsizes || policy.size != size || policy.iova != iova ||
	    !(policy.flags & INHERIT) != !inherited)
		return problem_is("GET_POLICY at %#lx: sizes %#llx for %#llx bytes at %#llx, flags %u",
				  iova, policy.pgsizes, policy.size, policy.iova, policy.flags);
	return NULL;
}

static problem map_all(struct vmm *vmm, struct memory *memory)
{
	return vmm_map(vmm, AT, memory->va, memory->size, READ_WRITE);
}

/* Each policy after each other one: smaller leaves, larger ones, the same. */
TEST_F_TIMEOUT(policy, apply_each_after_each, TIMEOUT)
{
	static const uint64_t sizes[] = {
		ANY_SIZE, ONLY_4K, UPTO_2M, KIB(4) | KIB(64), UPTO_1G, KIB(4) | KIB(32) | MIB(1),
	};

	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	for (size_t from = 0; from < ARRAY_SIZE(sizes); from++) {
		for (size_t to = 0; to < ARRAY_SIZE(sizes); to++) {
			ASSERT_SOUND(vmm_policy(&self->vmm, APPLY, sizes[from]));
			ASSERT_SOUND(vmm_policy(&self->vmm, APPLY, sizes[to]));
			EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
					       PARTS({ SIZE, sizes[to] }))) {
				TH_LOG("from %#lx to %#lx", sizes[from], sizes[to]);
			}
		}
	}
	EXPECT_SOUND(account_rose(&self->vmm.before, SIZE / PAGE, SIZE / PAGE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

/* Without APPLY mapped memory is unchanged, and later maps use the policy. */
TEST_F_TIMEOUT(policy, without_apply_only_later_maps, TIMEOUT)
{
	uint64_t half = SIZE / 2;

	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, half, READ_WRITE));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, ONLY_4K));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory, PARTS({ half, ANY_SIZE })));
	ASSERT_SOUND(vmm_map(&self->vmm, AT + half, self->memory.va + half, half, READ_WRITE));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
			       PARTS({ half, ANY_SIZE }, { half, ONLY_4K })));
	ASSERT_SOUND(vmm_policy(&self->vmm, APPLY, ONLY_4K));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
			       PARTS({ half, ONLY_4K }, { half, ONLY_4K })));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
}

/* Memory of 4K pages has nothing to merge: APPLY leaves it, or merges what happens to fit. */
TEST_F_TIMEOUT(policy, apply_to_scattered_memory, TIMEOUT)
{
	struct memory small = {};

	ASSERT_SOUND(memory_alloc(&small, ANON_4K, MIB(4)));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, ONLY_4K));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, small.va, small.size, READ_WRITE));
	ASSERT_SOUND(vmm_policy(&self->vmm, APPLY, ANY_SIZE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, small.va, small.size, ANY_SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, small.va, small.size));
	memory_free(&small);
}

/* Two mappings that meet in the middle of 2M are never merged. */
TEST_F_TIMEOUT(policy, apply_keeps_mappings_apart, TIMEOUT)
{
	uint64_t first = MIB(3);

	ASSERT_SOUND(vmm_policy(&self->vmm, 0, ONLY_4K));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, first, READ_WRITE));
	ASSERT_SOUND(vmm_map(&self->vmm, AT + first, self->memory.va + first, SIZE - first,
			     READ_WRITE));
	ASSERT_SOUND(vmm_policy(&self->vmm, APPLY, UPTO_2M));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
			       PARTS({ first, UPTO_2M }, { SIZE - first, UPTO_2M })));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, first));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT + first, self->memory.va + first, SIZE - first,
				   UPTO_2M, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + first, self->memory.va + first,
				     SIZE - first));
}

TEST_F_TIMEOUT(policy, range_before_mapping, TIMEOUT)
{
	/* The range starts and ends within a 2M page. */
	uint64_t start = MIB(2) + KIB(64), size = MIB(5);

	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE, AT + start, size, ONLY_4K));
	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
			       PARTS({ start, ANY_SIZE }, { size, ONLY_4K },
				     { SIZE - start - size, ANY_SIZE })));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + start, self->memory.va + start, size));
}

TEST_F_TIMEOUT(policy, range_after_mapping, TIMEOUT)
{
	uint64_t start = MIB(2) + PAGE, size = PAGE;

	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE | APPLY, AT + start, size, ONLY_4K));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
			       PARTS({ start, ANY_SIZE }, { size, ONLY_4K },
				     { SIZE - start - size, ANY_SIZE })));
	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE | APPLY | INHERIT, AT + start, size, 0));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory, PARTS({ SIZE, ANY_SIZE })));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
}

/* If a range covers a part of a leaf, the rest gets the leaves of its own policy. */
TEST_F_TIMEOUT(policy, range_within_a_leaf, TIMEOUT)
{
	static const uint64_t starts[] = { 0, MIB(2), MIB(4) - PAGE };

	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE, AT - MIB(2), MIB(2), ONLY_4K));
	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		uint64_t start = starts[i], rest = SIZE - start - PAGE;

		ASSERT_EQ(0, policy_set(self->vmm.container, RANGE | APPLY, AT + start, PAGE,
					ONLY_4K));
		EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
				       start ? PARTS({ start, ANY_SIZE }, { PAGE, ONLY_4K },
						     { rest, ANY_SIZE }) :
					       PARTS({ PAGE, ONLY_4K }, { rest, ANY_SIZE })));
		ASSERT_EQ(0, policy_set(self->vmm.container, RANGE | APPLY | INHERIT, AT + start,
					PAGE, 0));
		EXPECT_SOUND(has_parts(&self->vmm, &self->memory, PARTS({ SIZE, ANY_SIZE })));
	}
}

/* A later range replaces the policy of the same addresses only. */
TEST_F_TIMEOUT(policy, overlapping_ranges, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	ASSERT_EQ(0, policy_set(container, RANGE | APPLY, AT, MIB(8), ONLY_4K));
	ASSERT_EQ(0, policy_set(container, RANGE | APPLY, AT + MIB(2), MIB(2), UPTO_2M));
	ASSERT_EQ(0, policy_set(container, RANGE | APPLY, AT + MIB(6), MIB(6),
				KIB(4) | KIB(64)));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
			       PARTS({ MIB(2), ONLY_4K }, { MIB(2), UPTO_2M }, { MIB(2), ONLY_4K },
				     { MIB(6), KIB(4) | KIB(64) }, { MIB(4), ANY_SIZE })));
	EXPECT_SOUND(policy_at_is(container, AT, ONLY_4K, MIB(2), 0));
	EXPECT_SOUND(policy_at_is(container, AT + MIB(2), UPTO_2M, MIB(2), 0));
	EXPECT_SOUND(policy_at_is(container, AT + MIB(4), ONLY_4K, MIB(2), 0));
	EXPECT_SOUND(policy_at_is(container, AT + MIB(6), KIB(4) | KIB(64), MIB(6), 0));
	EXPECT_SOUND(policy_at_is(container, AT + MIB(11), KIB(4) | KIB(64), MIB(1), 0));
	EXPECT_SOUND(policy_at_is(container, 0, ANY_SIZE, AT, 1));
	EXPECT_SOUND(policy_at_is(container, AT + MIB(12), ANY_SIZE, EVERYWHERE + PAGE - AT - MIB(12),
				  1));

	/* The container's policy applies where no range has its own. */
	ASSERT_SOUND(vmm_policy(&self->vmm, APPLY, ONLY_4K));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
			       PARTS({ MIB(2), ONLY_4K }, { MIB(2), UPTO_2M }, { MIB(2), ONLY_4K },
				     { MIB(6), KIB(4) | KIB(64) }, { MIB(4), ONLY_4K })));
	ASSERT_EQ(0, policy_set(container, RANGE | APPLY | INHERIT, 0, EVERYWHERE, 0));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory, PARTS({ SIZE, ONLY_4K })));
	EXPECT_SOUND(policy_at_is(container, 0, ONLY_4K, EVERYWHERE, 1));
}

TEST_F_TIMEOUT(policy, get_answers, TIMEOUT)
{
	int container = self->vmm.container;
	struct vfio_pgsize_policy policy;
	struct info info;

	ASSERT_EQ(0, policy_get(container, &policy, 0, 0));
	EXPECT_EQ(VFIO_PGSIZE_ALL, policy.pgsizes);
	EXPECT_SOUND(policy_at_is(container, 0, ANY_SIZE, EVERYWHERE, 1));
	ASSERT_SOUND(container_info(container, &info));
	EXPECT_EQ(VFIO_PGSIZE_INFO_CAP, info.policy.header.id);
	EXPECT_EQ(1, info.policy.header.version);
	EXPECT_EQ(UPTO_1G, info.policy.supported & UPTO_1G);
	EXPECT_EQ(VFIO_PGSIZE_ALL, info.policy.pgsizes);
	EXPECT_EQ(0, info.policy.nr_ranges);
	EXPECT_LT(0, info.policy.max_ranges);

	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(container, RANGE, AT, PAGE, ONLY_4K));
	ASSERT_EQ(0, policy_get(container, &policy, 0, 0));
	EXPECT_EQ(UPTO_2M, policy.pgsizes);
	EXPECT_SOUND(policy_at_is(container, AT, ONLY_4K, PAGE, 0));
	EXPECT_SOUND(policy_at_is(container, AT - PAGE, UPTO_2M, PAGE, 1));
	ASSERT_SOUND(container_info(container, &info));
	EXPECT_EQ(UPTO_2M, info.policy.pgsizes);
	EXPECT_EQ(1, info.policy.nr_ranges);
	ASSERT_EQ(0, policy_set(container, RANGE | INHERIT, AT, PAGE, 0));
	ASSERT_SOUND(container_info(container, &info));
	EXPECT_EQ(0, info.policy.nr_ranges);
}

/* As many ranges as GET_INFO says, and no more; then remove all at once. */
TEST_F_TIMEOUT(policy, limit_of_ranges, TIMEOUT)
{
	int container = self->vmm.container;
	struct info info;
	uint32_t max;

	ASSERT_SOUND(container_info(container, &info));
	max = info.policy.max_ranges;
	for (uint32_t i = 0; i < max; i++) {
		ASSERT_EQ(0, policy_set(container, RANGE, i * MIB(2), PAGE, ONLY_4K)) {
			TH_LOG("range %u of %u", i, max);
		}
	}
	EXPECT_EQ(-ENOSPC, policy_set(container, RANGE, max * MIB(2), PAGE, ONLY_4K));
	EXPECT_SOUND(policy_at_is(container, max * MIB(2), ANY_SIZE,
				  EVERYWHERE + PAGE - max * MIB(2), 1));
	ASSERT_SOUND(container_info(container, &info));
	EXPECT_EQ(max, info.policy.nr_ranges);
	ASSERT_EQ(0, policy_set(container, RANGE | INHERIT, 0, EVERYWHERE, 0));
	ASSERT_SOUND(container_info(container, &info));
	EXPECT_EQ(0, info.policy.nr_ranges);
}

/* The policy stays when the mapping goes. */
TEST_F_TIMEOUT(policy, outlives_mapping, TIMEOUT)
{
	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE, AT, MIB(4), ONLY_4K));
	for (int round = 0; round < 2; round++) {
		ASSERT_SOUND(map_all(&self->vmm, &self->memory));
		EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
				       PARTS({ MIB(4), ONLY_4K }, { SIZE - MIB(4), ANY_SIZE })));
		EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	}
}

/* A group that joins later finds the same leaves; one that leaves removes none. */
TEST_F_TIMEOUT(policy, groups_come_and_go, TIMEOUT)
{
	const struct part *parts = PARTS({ MIB(4), ONLY_4K }, { SIZE - MIB(4), UPTO_2M });

	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(self->vmm.container, RANGE, AT, MIB(4), ONLY_4K));
	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	for (int round = 0; round < 3; round++) {
		ASSERT_SOUND(vmm_attach(&self->vmm, 1));
		EXPECT_SOUND(has_parts(&self->vmm, &self->memory, parts));
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT, self->memory.va, SIZE));
		vmm_detach(&self->vmm, 1);
		EXPECT_SOUND(has_parts(&self->vmm, &self->memory, parts));
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	}
	/* The first group leaves, the second stays. */
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory, parts));
	ASSERT_SOUND(vmm_policy(&self->vmm, APPLY, ONLY_4K));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory,
			       PARTS({ MIB(4), ONLY_4K }, { SIZE - MIB(4), ONLY_4K })));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT, self->memory.va, SIZE));
}

/* Another device's registers, VM_PFNMAP: policy and DMA work as for memory. */
TEST_F_TIMEOUT(policy, peer_to_peer, TIMEOUT)
{
	static const uint64_t sizes[] = { ANY_SIZE, ONLY_4K, KIB(4) | KIB(64) };
	struct leaves expected = {};
	struct edu *peer;
	uint32_t value = 0x12345678;

	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	peer = &self->vmm.devices[1].edu;
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, sizes[ARRAY_SIZE(sizes) - 1]));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, (void *)peer->registers, EDU_BAR_SIZE, READ_WRITE));
	/* Registers are not memory: nothing is pinned for them. */
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (i) {
			ASSERT_SOUND(vmm_policy(&self->vmm, APPLY, sizes[i - 1]));
		}
		leaves_tile_phys(&expected, AT, peer->bar_phys, EDU_BAR_SIZE,
				 sizes[(i + ARRAY_SIZE(sizes) - 1) % ARRAY_SIZE(sizes)] &
				 self->vmm.sizes, READ_WRITE);
		EXPECT_SOUND(vmm_has_leaves(&self->vmm, &expected));
		leaves_free(&expected);
	}

	/* The first device writes to a register of the second, which inverts it. */
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(2), self->memory.va, MIB(2), READ_WRITE));
	memcpy(self->memory.va, &value, sizeof(value));
	ASSERT_SOUND(edu_fetch(&self->vmm.devices[0].edu, GIB(2), sizeof(value)));
	ASSERT_SOUND(edu_store(&self->vmm.devices[0].edu, AT + EDU_LIVENESS, sizeof(value)));
	EXPECT_EQ(~value, edu_read_register(peer, EDU_LIVENESS));
	/* And reads it. */
	ASSERT_SOUND(edu_fetch(&self->vmm.devices[0].edu, AT + EDU_LIVENESS, sizeof(value)));
	ASSERT_SOUND(edu_store(&self->vmm.devices[0].edu, GIB(2), sizeof(value)));
	memcpy(&value, self->memory.va, sizeof(value));
	EXPECT_EQ(~0x12345678u, value);
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, EDU_BAR_SIZE));
}

/* Two containers have their own policies and leaves. */
TEST_F_TIMEOUT(policy, containers_are_apart, TIMEOUT)
{
	int other = container_open(), group;
	struct vfio_pgsize_policy policy;
	struct leaves found = {};
	char bdf[BDF_SIZE];

	ASSERT_LE(0, other);
	ASSERT_SOUND(edu_find(1, bdf));
	group = group_open(bdf);
	ASSERT_LE(0, group);
	ASSERT_EQ(0, group_join(group, other));
	ASSERT_EQ(0, container_set_type(other, VFIO_PGSIZE_IOMMU));
	ASSERT_EQ(0, policy_of_all(other, 0, ONLY_4K));
	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	ASSERT_EQ(0, dma_map(other, AT, self->memory.va, MIB(2), READ_WRITE));
	EXPECT_SOUND(has_parts(&self->vmm, &self->memory, PARTS({ SIZE, ANY_SIZE })));
	ASSERT_SOUND(leaves_query(&found, other, 0, 0, EVERYWHERE));
	EXPECT_EQ(512, leaves_count_size(&found, PAGE));
	EXPECT_EQ(512, leaves_count(&found));
	ASSERT_EQ(0, policy_get(self->vmm.container, &policy, 0, 0));
	EXPECT_EQ(VFIO_PGSIZE_ALL, policy.pgsizes);
	leaves_free(&found);
	close(group);
	close(other);
}

TEST_PROGRAM("Sets page-size policies, before mapping and after it, and checks what comes of them.")
