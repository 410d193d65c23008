// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that are software beside those that have an IOMMU: what is pinned and charged
 * already, IOMMUs that come late and leave early, page states. As type1, where that has
 * the same.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include "mixed.h"

/* How often a device is told that does not unpin. */
#define TRIES	10

#define MAP(iova, va, size, flags)	dma_map(self->vmm.container, iova, va, size, flags)

#define UNMAP(iova, size, flags) ({						\
	uint64_t __bytes = size;						\
	int __ret = dma_unmap(self->vmm.container, iova, &__bytes, flags);	\
										\
	__ret ? __ret : (long)__bytes;						\
})

#define ROSE(locked, pinned)	EXPECT_SOUND(account_rose(&self->alone.before, locked, pinned))

/* A device with an IOMMU has all of the memory. */
static problem reaches_memory(struct vmm *vmm, int device, uint8_t *va)
{
	struct leaves expected = {};
	struct info info;
	problem wrong = container_info(vmm->container, &info);

	if (!wrong && !info.nr_ranges)
		wrong = problem_is("no IOVA is usable");
	for (int i = 0; !wrong && i < 2; i++)
		wrong = leaves_tile(&expected, AT + i * SIZE / 2, va + i * SIZE / 2, SIZE / 2,
				    info.policy.header.id ? info.policy.supported : info.pgsizes,
				    READ_WRITE);
	if (!wrong)
		wrong = vmm_has_leaves(vmm, &expected);
	leaves_free(&expected);
	return wrong ? wrong : vmm_moves_bytes(vmm, device, AT, va, SIZE);
}

TEST_F_TIMEOUT(mixed, late, TIMEOUT)
{
	ASSERT_EQ(0, emulated_pin(self->device, AT + SIZE / 2 - PAGE, 3, RW, NULL));
	ROSE(3, 3);
	/* All is pinned once more, and charged but once. */
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	ROSE(PAGES, PAGES + 3);
	EXPECT_SOUND(reaches_memory(&self->vmm, 0, self->memory.va));
	/* Pages that come now are charged already. */
	ASSERT_EQ(0, emulated_pin(self->device, AT, 1, RW, NULL));
	ROSE(PAGES, PAGES + 4);
	EXPECT_EQ(0, emulated_unpin(self->device, AT + SIZE / 2, 2));
	ROSE(PAGES, PAGES + 2);
	/* Another kind of device that has an IOMMU joins the first one's domain. */
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_SOUND(reaches_memory(&self->vmm, 1, self->memory.va));
	vmm_detach(&self->vmm, 0);
	ROSE(PAGES, PAGES + 2);
	/* The last one leaves: mappings are known, and what is pinned is charged by itself. */
	vmm_detach(&self->vmm, 1);
	ROSE(2, 2);
	EXPECT_EQ(0, emulated_pin(self->device, AT + PAGE, 1, RW, NULL));
	ROSE(3, 3);
	EXPECT_EQ(-EEXIST, MAP(AT, self->memory.va, PAGE, READ_WRITE));
	/* And one comes again. */
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	ROSE(PAGES, PAGES + 3);
	EXPECT_SOUND(reaches_memory(&self->vmm, 1, self->memory.va));
	EXPECT_EQ(SIZE / 2, UNMAP(AT, SIZE / 2, 0));
	EXPECT_SOUND(emulated_was_told(self->device, 1, AT, SIZE / 2, 0));
	ROSE(PAGES / 2, PAGES / 2);
	vmm_detach(&self->vmm, 1);
	ROSE(0, 0);
	EXPECT_EQ(SIZE / 2, UNMAP(AT + SIZE / 2, SIZE / 2, 0));
}

/* What is mapped while there is an IOMMU stays when it leaves. */
TEST_F_TIMEOUT(mixed, early, TIMEOUT)
{
	struct info info;

	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, 0));
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	EXPECT_EQ(-EINVAL, MAP(0xfee00000, self->memory.va, PAGE, READ_WRITE));
	ASSERT_EQ(0, MAP(AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_EQ(0, emulated_pin(self->device, AT, 2, RW, NULL));
	ROSE(PAGES, PAGES + 2);
	vmm_detach(&self->vmm, 0);
	ROSE(2, 2);
	EXPECT_EQ(0, emulated_pin(self->device, AT + SIZE - PAGE, 1, RW, NULL));
	/* All addresses are usable now, and that is said. */
	ASSERT_SOUND(container_info(self->vmm.container, &info));
	EXPECT_EQ(1, info.nr_ranges);
	EXPECT_EQ(0, info.ranges[0].start);
	EXPECT_EQ(~0ULL, info.ranges[0].end);
	EXPECT_EQ(0, MAP(0xfee00000, self->memory.va, PAGE, READ_WRITE));
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, 0));
	ROSE(0, 0);
	/* The device that is software leaves first: mappings stay for the other. */
	EXPECT_EQ(PAGE, UNMAP(0xfee00000, PAGE, 0));
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	ASSERT_EQ(0, MAP(AT, self->memory.va, SIZE / 2, READ_WRITE));
	ASSERT_EQ(0, MAP(AT + SIZE / 2, self->memory.va + SIZE / 2, SIZE / 2, READ_WRITE));
	emulated_close(self->device);
	ROSE(PAGES, PAGES);
	EXPECT_SOUND(reaches_memory(&self->vmm, 0, self->memory.va));
	EXPECT_EQ(1, container_extension(self->vmm.container, VFIO_UPDATE_VADDR));
	vmm_detach(&self->vmm, 0);
	ROSE(0, 0);
}

/* An IOMMU that is refused leaves all as it was. */
static int attach(FIXTURE_DATA(mixed) *self)
{
	char bdf[BDF_SIZE];
	int group, ret;

	if (edu_find(0, bdf))
		return 1;
	group = group_open(bdf);
	ret = group_join(group, self->vmm.container);
	close(group);
	return ret;
}

TEST_F_TIMEOUT(mixed, late_and_refused, TIMEOUT)
{
	uint8_t *hole;

	ASSERT_EQ(0, emulated_pin(self->device, AT + SIZE / 2 - PAGE, 2, RW, NULL));
	/* An address that no IOMMU translates. */
	ASSERT_EQ(0, MAP(0xfee00000, self->memory.va, PAGE, READ_WRITE));
	EXPECT_EQ(-EINVAL, attach(self));
	ROSE(2, 2);
	EXPECT_EQ(PAGE, UNMAP(0xfee00000, PAGE, 0));
	/* Memory that is not there, behind some that is. */
	hole = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, hole);
	ASSERT_EQ(0, MAP(GIB(2), hole, 4 * PAGE, READ_WRITE));
	ASSERT_EQ(0, munmap(hole + 3 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, attach(self));
	ROSE(2, 2);
	EXPECT_EQ(0, emulated_pin(self->device, AT, 1, RW, NULL));
	EXPECT_EQ(0, emulated_unpin(self->device, AT + SIZE / 2 - PAGE, 1));
	ROSE(2, 2);
	EXPECT_EQ(4 * PAGE, UNMAP(GIB(2), 4 * PAGE, 0));
	EXPECT_EQ(SIZE / 2, UNMAP(AT + SIZE / 2, SIZE / 2, 0));
	EXPECT_SOUND(emulated_was_told(self->device, 1, AT + SIZE / 2, SIZE / 2, 1));
	ASSERT_EQ(0, MAP(AT + SIZE / 2, self->memory.va + SIZE / 2, SIZE / 2, READ_WRITE));
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	EXPECT_SOUND(reaches_memory(&self->vmm, 0, self->memory.va));
	ROSE(PAGES, PAGES + 1);
}

/* What is pinned already counts once: so much is just enough, and a page less is not. */
TEST_F_TIMEOUT(mixed, late_and_limited, TIMEOUT)
{
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, 0));
	ASSERT_SOUND(account_limit(self->alone.before.locked + 64));
	ASSERT_EQ(0, MAP(AT, self->memory.va, 65 * PAGE, READ_WRITE));
	ASSERT_EQ(0, emulated_pin(self->device, AT, 20, RW, NULL));
	EXPECT_EQ(-ENOMEM, attach(self));
	ROSE(20, 20);
	EXPECT_EQ(0, emulated_unpin(self->device, AT + 10 * PAGE, 10));
	ROSE(10, 10);
	EXPECT_EQ(65 * PAGE, UNMAP(AT, 65 * PAGE, 0));
	ROSE(0, 0);
	ASSERT_EQ(0, MAP(AT, self->memory.va, 64 * PAGE, READ_WRITE));
	ASSERT_EQ(0, emulated_pin(self->device, AT, 20, RW, NULL));
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	ROSE(64, 84);
	EXPECT_EQ(0, emulated_pin(self->device, AT + 40 * PAGE, 20, RW, NULL));
	vmm_detach(&self->vmm, 0);
	ROSE(40, 40);
}

/* A group of either kind waits for all mappings to have an address. */
TEST_F_TIMEOUT(mixed, update_of_vaddr, TIMEOUT)
{
	struct emulated second;

	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	emulated_close(self->device);
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, VFIO_DMA_UNMAP_FLAG_VADDR));
	EXPECT_EQ(-EBUSY, emulated_join(&second, self->vmm.container, 1));
	EXPECT_EQ(0, MAP(AT, self->memory.va, SIZE / 2, VFIO_DMA_MAP_FLAG_VADDR));
	EXPECT_EQ(-EBUSY, emulated_join(&second, self->vmm.container, 1));
	EXPECT_EQ(0, MAP(AT + SIZE / 2, self->memory.va + SIZE / 2, SIZE / 2,
			 VFIO_DMA_MAP_FLAG_VADDR));
	EXPECT_EQ(0, emulated_join(&second, self->vmm.container, 1));
	emulated_close(&second);
}

/* --- what type1 does not have --------------------------------------------------------- */

static int change(struct vmm *vmm, uint64_t iova, uint64_t size, uint32_t state)
{
	struct vfio_pgsize_state to = { .iova = iova, .size = size, .state = state };
	uint32_t nr = 1;

	return set_state(vmm->container, &to, &nr);
}

#define SHARE(iova, size)	change(&self->vmm, iova, size, VFIO_PGSIZE_STATE_SHARED)
#define TAKE(iova, size)	change(&self->vmm, iova, size, VFIO_PGSIZE_STATE_PRIVATE)

/* The leaves of a late IOMMU are those of the policy. */
TEST_F_TIMEOUT(mixed, policies, TIMEOUT)
{
	struct leaves leaves = {};

	if (!variant->parameters)
		SKIP(return, "type1 has no policies");
	ASSERT_EQ(0, policy_of_all(self->vmm.container, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE, AT, SIZE / 2,
				ONLY_4K));
	EXPECT_EQ(-ENOENT, -(leaves_query(&leaves, self->vmm.container, 0, AT, SIZE) ? ENOENT : 0));
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	ASSERT_SOUND(leaves_query(&leaves, self->vmm.container, 0, AT, SIZE));
	EXPECT_EQ(PAGES / 2, leaves_count_size(&leaves, PAGE));
	EXPECT_EQ(1, leaves_count_size(&leaves, MIB(2)));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	leaves_free(&leaves);
}

TEST_F_TIMEOUT(mixed, parts, TIMEOUT)
{
	if (variant->type != VFIO_PGSIZE_IOMMU)
		SKIP(return, "type1v2 unmaps no parts of mappings");
	/* With an IOMMU and without one: what stays is not told of. */
	for (int with = 0; with < 2; with++) {
		uint64_t at = AT + with * SIZE / 2;

		if (with)
			ASSERT_SOUND(vmm_attach(&self->vmm, 0));
		ASSERT_EQ(0, emulated_pin(self->device, at + 4 * PAGE, 8, RW, NULL));
		EXPECT_EQ(4 * PAGE, UNMAP(at + 6 * PAGE, 4 * PAGE, 0));
		EXPECT_SOUND(emulated_was_told(self->device, 1, at + 6 * PAGE, 4 * PAGE, 4));
		EXPECT_EQ(-EINVAL, emulated_pin(self->device, at + 5 * PAGE, 2, RW, NULL));
		EXPECT_EQ(0, emulated_unpin(self->device, at + 4 * PAGE, 2));
		EXPECT_EQ(0, emulated_unpin(self->device, at + 10 * PAGE, 2));
	}
	ROSE(PAGES - 8, PAGES - 8);
}

TEST_F_TIMEOUT(mixed, page_states, TIMEOUT)
{
	const uint32_t flags = READ_WRITE | VFIO_PGSIZE_MAP_STATEFUL;
	uint64_t byte = 1;

	if (variant->type != VFIO_PGSIZE_IOMMU)
		SKIP(return, "type1v2 has no page states");
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, 0));
	/* Which pages are shared is in the page table. */
	EXPECT_EQ(-EOPNOTSUPP, MAP(AT, self->memory.va, SIZE, flags));
	EXPECT_EQ(-EOPNOTSUPP, MAP(AT, self->memory.va, SIZE, flags | VFIO_PGSIZE_MAP_SHARED));
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	ASSERT_EQ(0, MAP(AT, self->memory.va, SIZE, flags));
	EXPECT_EQ(-EPERM, emulated_pin(self->device, AT, 1, RW, NULL));
	EXPECT_EQ(-EPERM, emulated_rw(self->device, AT, &byte, 8, 0));
	ASSERT_EQ(0, SHARE(AT + PAGE, 2 * PAGE));
	EXPECT_EQ(-EPERM, emulated_pin(self->device, AT, 2, RW, NULL));
	EXPECT_EQ(-EPERM, emulated_pin(self->device, AT + 2 * PAGE, 2, RW, NULL));
	EXPECT_EQ(-EPERM, emulated_rw(self->device, AT + PAGE - 4, &byte, 8, EMULATED_WRITE));
	EXPECT_EQ(0, self->memory.va[PAGE]);
	EXPECT_EQ(0, emulated_rw(self->device, AT + 2 * PAGE - 4, &byte, 8, EMULATED_WRITE));
	EXPECT_EQ(1, self->memory.va[2 * PAGE - 4]);
	ASSERT_EQ(0, emulated_pin(self->device, AT + PAGE, 2, RW, NULL));
	ROSE(2, 4);
	/* Of pages that become private devices are told; of those that do not, not. */
	EXPECT_EQ(0, TAKE(AT, PAGE));
	EXPECT_EQ(0, SHARE(AT + PAGE, 4 * PAGE));
	EXPECT_EQ(0, TAKE(AT + 3 * PAGE, 2 * PAGE));
	EXPECT_SOUND(emulated_was_told(self->device, 0, 0, 0, 2));
	EXPECT_EQ(0, TAKE(AT + PAGE, PAGE));
	EXPECT_SOUND(emulated_was_told(self->device, 1, AT + PAGE, PAGE, 1));
	ROSE(1, 2);
	EXPECT_EQ(-EPERM, emulated_pin(self->device, AT + PAGE, 1, RW, NULL));
	/* One that does not let go keeps them shared. */
	ASSERT_EQ(0, emulated_set(self->device, EMULATED_KEEPS));
	EXPECT_EQ(-EBUSY, TAKE(AT + PAGE, 2 * PAGE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + 2 * PAGE, self->memory.va + 2 * PAGE,
				     PAGE));
	ASSERT_EQ(0, emulated_set(self->device, 0));
	EXPECT_SOUND(emulated_was_told(self->device, TRIES, AT + PAGE, 2 * PAGE, 1));
	/* With the last IOMMU goes what says which are shared. */
	EXPECT_EQ(0, SHARE(AT + PAGE, SIZE - PAGE));
	vmm_detach(&self->vmm, 0);
	EXPECT_EQ(-EPERM, emulated_pin(self->device, AT + 4 * PAGE, 1, RW, NULL));
	EXPECT_EQ(-EOPNOTSUPP, SHARE(AT + 4 * PAGE, PAGE));
	EXPECT_EQ(-EOPNOTSUPP, TAKE(AT + 4 * PAGE, PAGE));
	EXPECT_EQ(0, emulated_unpin(self->device, AT + 2 * PAGE, 1));
	ROSE(0, 0);
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	ROSE(0, 0);
	EXPECT_EQ(-EPERM, emulated_pin(self->device, AT + 4 * PAGE, 1, RW, NULL));
	EXPECT_EQ(0, SHARE(AT + 4 * PAGE, PAGE));
	EXPECT_EQ(0, emulated_pin(self->device, AT + 4 * PAGE, 1, RW, NULL));
	ROSE(1, 2);
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, 0));
	ROSE(0, 0);
}

TEST_F_TIMEOUT(mixed, device_that_keeps_pages, TIMEOUT)
{
	if (!variant->parameters)
		SKIP(return, "type1 panics when a device does not unpin");
	ASSERT_EQ(0, emulated_pin(self->device, AT, 2, RW, NULL));
	ASSERT_EQ(0, emulated_set(self->device, EMULATED_KEEPS));
	EXPECT_EQ(-EBUSY, UNMAP(AT, SIZE, 0));
	EXPECT_SOUND(emulated_was_told(self->device, TRIES, AT, SIZE / 2, 2));
	EXPECT_EQ(0, emulated_pin(self->device, AT + SIZE / 2, 1, RW, NULL));
	ROSE(3, 3);
	ASSERT_EQ(0, emulated_set(self->device, 0));
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, 0));
	EXPECT_SOUND(emulated_was_told(self->device, 2, AT + SIZE / 2, SIZE / 2, 0));
	ROSE(0, 0);
}

/* Pieces that are joined before such a device comes are mappings of their own then. */
TEST(joined_before)
{
	struct emulated device;
	struct memory memory = {};
	struct vfio_pgsize_stats stats;
	struct info info;
	struct vmm vmm;

	ASSERT_SOUND(module_require("serve_type1v2=1 join_mappings=1"));
	ASSERT_SOUND(emulated_load());
	ASSERT_SOUND(memory_alloc(&memory, HUGETLB_2M, MIB(2)));
	ASSERT_SOUND(vmm_open(&vmm, VFIO_TYPE1v2_IOMMU, 1));
	for (int i = 0; i < 512; i++)
		ASSERT_EQ(0, dma_map(vmm.container, AT + i * PAGE, memory.va + i * PAGE, PAGE,
				     READ_WRITE));
	ASSERT_EQ(0, get_stats(vmm.container, &stats));
	EXPECT_EQ(1, stats.joined_entries);
	ASSERT_EQ(0, emulated_join(&device, vmm.container, 0));
	ASSERT_SOUND(emulated_open(&device, 0));
	ASSERT_EQ(0, get_stats(vmm.container, &stats));
	EXPECT_EQ(0, stats.joined_entries);
	ASSERT_EQ(0, emulated_pin(&device, AT + 5 * PAGE, 2, RW, NULL));
	EXPECT_SOUND(account_rose(&vmm.before, 512, 514));
	/* Nor are those joined that come now, and each counts. */
	ASSERT_SOUND(container_info(vmm.container, &info));
	EXPECT_GE(65535, info.dma_avail);
	ASSERT_SOUND(dma_unmap_exactly(vmm.container, AT, PAGE));
	ASSERT_EQ(0, dma_map(vmm.container, AT, memory.va, PAGE, READ_WRITE));
	ASSERT_EQ(0, get_stats(vmm.container, &stats));
	EXPECT_EQ(0, stats.joined_entries);
	EXPECT_SOUND(vmm_moves_bytes(&vmm, 0, AT, memory.va, MIB(2)));
	ASSERT_SOUND(dma_unmap_exactly(vmm.container, AT + 5 * PAGE, PAGE));
	EXPECT_SOUND(emulated_was_told(&device, 1, AT + 5 * PAGE, PAGE, 1));
	emulated_close(&device);
	EXPECT_SOUND(vmm_close(&vmm));
	memory_free(&memory);
	huge_pages_release();
}

TEST_PROGRAM("Devices that are software, with devices that have an IOMMU, as with type1.")
