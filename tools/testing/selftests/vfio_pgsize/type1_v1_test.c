// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO_TYPE1_IOMMU beside VFIO_TYPE1v2_IOMMU: how they unmap what mappings have in part.
 * Of each type vfio_iommu_type1 and vfio_pgsize give the answers that are written here.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "dirty.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(6)		/* of the memory */

FIXTURE(v1) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_VARIANT(v1) {
	const char *parameters;		/* of vfio_pgsize; NULL: it is not loaded */
	unsigned long type;
};

FIXTURE_VARIANT_ADD(v1, type1) { .type = VFIO_TYPE1_IOMMU };
FIXTURE_VARIANT_ADD(v1, pgsize) { .parameters = "serve_type1=1", .type = VFIO_TYPE1_IOMMU };
FIXTURE_VARIANT_ADD(v1, type1_v2) { .type = VFIO_TYPE1v2_IOMMU };
FIXTURE_VARIANT_ADD(v1, pgsize_v2) {
	.parameters = "serve_type1v2=1", .type = VFIO_TYPE1v2_IOMMU,
};

FIXTURE_SETUP(v1)
{
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
}

FIXTURE_TEARDOWN(v1)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

TEST_F_TIMEOUT(v1, extensions, TIMEOUT)
{
	int container = self->vmm.container;

	EXPECT_EQ(variant->parameters ? VFIO_PGSIZE_VERSION : 0,
		  container_extension(container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(1, container_extension(container, VFIO_TYPE1_IOMMU));
	EXPECT_EQ(1, container_extension(container, VFIO_TYPE1v2_IOMMU));
	EXPECT_EQ(1, container_extension(container, VFIO_UNMAP_ALL));
	EXPECT_EQ(0, container_extension(container, VFIO_SPAPR_TCE_IOMMU));
	EXPECT_EQ(0, container_extension(container, VFIO_NOIOMMU_IOMMU));
	EXPECT_EQ(0, container_extension(container, (1UL << 32) + VFIO_TYPE1_IOMMU));
}

/* --- which of these mappings an unmap takes ------------------------------- */

#define A	(1 << 0)
#define B	(1 << 1)	/* begins where A ends */
#define C	(1 << 2)
#define D	(1 << 3)	/* the last page but one of all */
#define EACH	(A | B | C | D)

static const struct {
	uint64_t iova, size, skip;
} mappings[] = {
	{ AT, MIB(2), 0 },
	{ AT + MIB(2), MIB(2), MIB(2) },
	{ AT + MIB(8), MIB(1), MIB(4) },
	{ EVERYWHERE - PAGE, PAGE, MIB(5) },
};

struct outcome {
	int ret;
	int taken;	/* the mappings */
};

static const struct request {
	uint64_t iova, size;
	uint32_t flags;
	struct outcome v1, v2;
} requests[] = {
	/* what both answer alike */
	{ AT, MIB(2), 0, { 0, A }, { 0, A } },
	{ AT, MIB(4), 0, { 0, A | B }, { 0, A | B } },
	{ AT - MIB(1), MIB(20), 0, { 0, A | B | C }, { 0, A | B | C } },
	{ AT + MIB(4), MIB(4), 0, { 0, 0 }, { 0, 0 } },
	{ EVERYWHERE, PAGE, 0, { 0, 0 }, { 0, 0 } },
	{ 0, EVERYWHERE, 0, { 0, EACH }, { 0, EACH } },
	{ 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, { 0, EACH }, { 0, EACH } },
	/* a mapping that begins in the range goes as a whole */
	{ AT, PAGE, 0, { 0, A }, { -EINVAL } },
	{ AT, MIB(2) - PAGE, 0, { 0, A }, { -EINVAL } },
	{ AT - MIB(1), MIB(2), 0, { 0, A }, { -EINVAL } },
	{ AT - PAGE, 2 * PAGE, 0, { 0, A }, { -EINVAL } },
	{ AT, MIB(2) + PAGE, 0, { 0, A | B }, { -EINVAL } },
	{ AT + MIB(2), MIB(6) + PAGE, 0, { 0, B | C }, { -EINVAL } },
	{ AT + MIB(4), MIB(4) + PAGE, 0, { 0, C }, { -EINVAL } },
	{ 0, AT + PAGE, 0, { 0, A }, { -EINVAL } },
	/* one that begins before it stays, and all others with it */
	{ AT + PAGE, PAGE, 0, { 0, 0 }, { -EINVAL } },
	{ AT + MIB(1), MIB(1), 0, { 0, 0 }, { -EINVAL } },
	{ AT + MIB(1), MIB(3), 0, { 0, 0 }, { -EINVAL } },
	{ AT + MIB(1), MIB(8), 0, { 0, 0 }, { -EINVAL } },
	{ AT + MIB(2) - PAGE, 2 * PAGE, 0, { 0, 0 }, { -EINVAL } },
	{ AT + MIB(9) - PAGE, MIB(8), 0, { 0, 0 }, { -EINVAL } },
	{ AT + PAGE, EVERYWHERE - AT - PAGE, 0, { 0, 0 }, { -EINVAL } },
	/* what both refuse */
	{ AT, 0, 0, { -EINVAL }, { -EINVAL } },
	{ AT + 1, PAGE, 0, { -EINVAL }, { -EINVAL } },
	{ AT, PAGE + 1, 0, { -EINVAL }, { -EINVAL } },
	{ AT, ~0ULL, 0, { -EINVAL }, { -EINVAL } },
	{ AT, EVERYWHERE, 0, { -EOVERFLOW }, { -EOVERFLOW } },
	{ EVERYWHERE, 2 * PAGE, 0, { -EOVERFLOW }, { -EOVERFLOW } },
	{ EVERYWHERE + 1, 0, VFIO_DMA_UNMAP_FLAG_ALL | 1 << 4, { -EINVAL }, { -EINVAL } },
	{ AT, PAGE, 1 << 3, { -EINVAL }, { -EINVAL } },
	{ AT, PAGE, 1U << 31, { -EINVAL }, { -EINVAL } },
	{ AT, 0, VFIO_DMA_UNMAP_FLAG_ALL, { -EINVAL }, { -EINVAL } },
	{ 0, PAGE, VFIO_DMA_UNMAP_FLAG_ALL, { -EINVAL }, { -EINVAL } },
	{ 1, 0, VFIO_DMA_UNMAP_FLAG_ALL, { -EINVAL }, { -EINVAL } },
	{ AT, PAGE, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, { -EINVAL }, { -EINVAL } },
};

static uint64_t bytes_of(int which)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < ARRAY_SIZE(mappings); i++)
		bytes += which & 1 << i ? mappings[i].size : 0;
	return bytes;
}

static problem map_these(struct vmm *vmm, const struct memory *memory, int which)
{
	problem wrong = NULL;

	for (size_t i = 0; !wrong && i < ARRAY_SIZE(mappings); i++)
		if (which & 1 << i)
			wrong = vmm_map(vmm, mappings[i].iova, memory->va + mappings[i].skip,
					mappings[i].size, READ_WRITE);
	return wrong;
}

/* Are these mappings, and no others, in the page table, in the account, and counted? */
static problem has_just(struct vmm *vmm, const struct memory *memory, int which)
{
	uint64_t pages = bytes_of(which) / PAGE;
	struct leaves expected = {};
	problem wrong = NULL;
	struct info info;

	for (size_t i = 0; !wrong && i < ARRAY_SIZE(mappings); i++)
		if (which & 1 << i)
			wrong = leaves_tile(&expected, mappings[i].iova,
					    memory->va + mappings[i].skip, mappings[i].size,
					    vmm->sizes, READ_WRITE);
	if (!wrong)
		wrong = vmm_has_leaves(vmm, &expected);
	leaves_free(&expected);
	if (!wrong)
		wrong = account_rose(&vmm->before, pages, pages);
	if (!wrong)
		wrong = container_info(vmm->container, &info);
	if (!wrong && info.dma_avail != UINT16_MAX - __builtin_popcount(which))
		wrong = problem_is("%d mappings are left", info.dma_avail);
	return wrong;
}

TEST_F_TIMEOUT(v1, unmap, TIMEOUT)
{
	struct vmm *vmm = &self->vmm;

	ASSERT_SOUND(map_these(vmm, &self->memory, EACH));
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		const struct request *request = &requests[i];
		const struct outcome *expected =
			variant->type == VFIO_TYPE1_IOMMU ? &request->v1 : &request->v2;
		uint64_t size = request->size;
		int ret = dma_unmap(vmm->container, request->iova, &size, request->flags);

		EXPECT_EQ(expected->ret, ret) {
			TH_LOG("%#lx %#lx, flags %u", request->iova, request->size, request->flags);
		}
		EXPECT_EQ(expected->ret ? request->size : bytes_of(expected->taken), size) {
			TH_LOG("%#lx %#lx, flags %u", request->iova, request->size, request->flags);
		}
		ASSERT_SOUND(has_just(vmm, &self->memory, EACH & ~expected->taken)) {
			TH_LOG("%#lx %#lx, flags %u", request->iova, request->size, request->flags);
		}
		ASSERT_SOUND(map_these(vmm, &self->memory, expected->taken));
	}
	EXPECT_SOUND(has_just(vmm, &self->memory, EACH));
}

/* What the device reaches, as its DMA says. */
TEST_F_TIMEOUT(v1, dma, TIMEOUT)
{
	bool v1 = variant->type == VFIO_TYPE1_IOMMU;
	int container = self->vmm.container;
	uint64_t size = PAGE;

	ASSERT_SOUND(map_these(&self->vmm, &self->memory, A | B));
	EXPECT_EQ(v1 ? 0 : -EINVAL, dma_unmap(container, AT + MIB(1), &size, 0));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, MIB(4)));
	size = PAGE;
	EXPECT_EQ(v1 ? 0 : -EINVAL, dma_unmap(container, AT, &size, 0));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT + MIB(2), self->memory.va + MIB(2), MIB(2)));
	if (v1) {
		EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, AT + MIB(1)));
		EXPECT_SOUND(vmm_store_faults(&self->vmm, 0, AT + MIB(2) - PAGE));
	} else {
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, MIB(2)));
	}
}

/* Leaves of 4K or of 2M, and whether frames are contiguous: that does not matter. */
TEST_F_TIMEOUT(v1, whatever_the_leaves, TIMEOUT)
{
	static const enum backing backings[] = { ANON_4K, MEMFD, HUGETLB_2M };
	bool v1 = variant->type == VFIO_TYPE1_IOMMU;

	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		struct memory memory = {};
		uint64_t size = PAGE;

		ASSERT_SOUND(memory_alloc(&memory, backings[i], MIB(2)));
		ASSERT_SOUND(vmm_map(&self->vmm, AT, memory.va, MIB(2), READ_WRITE));
		EXPECT_EQ(v1 ? 0 : -EINVAL, dma_unmap(self->vmm.container, AT + PAGE, &size, 0));
		EXPECT_EQ(v1 ? 0 : PAGE, size);
		EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, memory.va, MIB(2), self->vmm.sizes,
					   READ_WRITE));
		size = v1 ? PAGE : MIB(2);
		EXPECT_EQ(0, dma_unmap(self->vmm.container, AT, &size, 0));
		EXPECT_EQ(MIB(2), size);
		EXPECT_SOUND(vmm_has_nothing(&self->vmm));
		EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
		memory_free(&memory);
	}
}

TEST_F_TIMEOUT(v1, arguments, TIMEOUT)
{
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = AT, .size = PAGE };
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = READ_WRITE, .iova = AT + MIB(4), .size = PAGE,
		.vaddr = (uintptr_t)self->memory.va,
	};
	int container = self->vmm.container;

	ASSERT_SOUND(map_these(&self->vmm, &self->memory, A));
	map.argsz = unmap.argsz = sizeof(unmap) - 1;
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_MAP_DMA, &map));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_UNMAP_DMA, NULL));
	EXPECT_EQ(EFAULT, errno);
	map.argsz = sizeof(map);
	/* Page states, for which type1 has no flags. */
	map.flags |= VFIO_PGSIZE_MAP_STATEFUL;
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_MAP_DMA, &map));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(container, VFIO_PGSIZE_SET_STATE, &map));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
	EXPECT_EQ(EINVAL, errno);
	/* Whoever overlaps is told so, of the last page as of the first. */
	EXPECT_EQ(-EEXIST, dma_map(container, AT + MIB(2) - PAGE, self->memory.va, MIB(1), READ_WRITE));
	EXPECT_EQ(-EEXIST, dma_map(container, AT - PAGE, self->memory.va, 2 * PAGE, READ_WRITE));
	EXPECT_SOUND(has_just(&self->vmm, &self->memory, A));
}

/* Dirty tracking is for v2 only; v1 says so before it reads anything. */
TEST_F_TIMEOUT(v1, dirty_tracking, TIMEOUT)
{
	bool v1 = variant->type == VFIO_TYPE1_IOMMU;
	int container = self->vmm.container;
	uint64_t size = MIB(2), bitmap[DIRTY_BYTES(MIB(2)) / 8] = {};

	ASSERT_SOUND(map_these(&self->vmm, &self->memory, A));
	EXPECT_EQ(v1 ? -EACCES : 0, dirty_start(container));
	EXPECT_EQ(v1 ? -EACCES : 0, dirty_get(container, AT, size, bitmap));
	EXPECT_EQ(v1 ? 0 : ~0ULL, bitmap[0]);
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_DIRTY_PAGES, NULL));
	EXPECT_EQ(v1 ? EACCES : EFAULT, errno);
	EXPECT_EQ(v1 ? -EINVAL : 0, dirty_unmap(container, AT, &size, bitmap));
	EXPECT_EQ(v1 ? -EACCES : 0, dirty_stop(container));
	EXPECT_SOUND(has_just(&self->vmm, &self->memory, v1 ? A : 0));
}

/* --- policies, on a container of this type ----------------------------------- */

TEST(policy)
{
	struct memory memory = {};
	uint64_t size = PAGE;
	struct vmm vmm;

	ASSERT_SOUND(module_require("serve_type1=1"));
	ASSERT_SOUND(memory_alloc(&memory, HUGETLB_2M, MIB(4)));
	ASSERT_SOUND(vmm_open(&vmm, VFIO_TYPE1_IOMMU, 2));
	ASSERT_SOUND(vmm_map(&vmm, AT, memory.va, MIB(4), READ_WRITE));
	ASSERT_EQ(0, policy_set(vmm.container, VFIO_PGSIZE_POLICY_RANGE | VFIO_PGSIZE_POLICY_APPLY,
				AT, MIB(4), ONLY_4K));
	EXPECT_SOUND(vmm_has_tiles(&vmm, AT, memory.va, MIB(4), ONLY_4K, READ_WRITE));
	EXPECT_EQ(0, dma_unmap(vmm.container, AT + MIB(2), &size, 0));
	EXPECT_EQ(0, size);
	EXPECT_SOUND(vmm_has_tiles(&vmm, AT, memory.va, MIB(4), ONLY_4K, READ_WRITE));
	size = PAGE;
	EXPECT_EQ(0, dma_unmap(vmm.container, AT, &size, 0));
	EXPECT_EQ(MIB(4), size);
	EXPECT_SOUND(vmm_has_nothing(&vmm));
	EXPECT_SOUND(account_rose(&vmm.before, 0, 0));
	EXPECT_SOUND(vmm_close(&vmm));
	memory_free(&memory);
	huge_pages_release();
}

/* --- who serves which type --------------------------------------------------- */

static int extension_of_none(unsigned long extension)
{
	int container = container_open();
	int ret = container_extension(container, extension);

	close(container);
	return ret;
}

/* Which backend a container of this type gets: what that answers to VFIO_PGSIZE_IOMMU. */
static problem served_by(unsigned long type, int *version)
{
	struct vmm vmm;
	problem wrong = vmm_open(&vmm, type, 1);

	if (wrong)
		return wrong;
	*version = container_extension(vmm.container, VFIO_PGSIZE_IOMMU);
	return vmm_close(&vmm);
}

/* What VFIO_SET_IOMMU of this type answers. */
static int set_type(unsigned long type)
{
	int container = container_open(), group = -1, ret = -ENODATA;
	char bdf[BDF_SIZE];

	if (!edu_find(0, bdf))
		group = group_open(bdf);
	if (group >= 0 && !group_join(group, container))
		ret = container_set_type(container, type);
	close(group);
	close(container);
	return ret;
}

TEST(each_parameter_serves_its_type)
{
	static const struct {
		const char *parameters;
		bool v1, v2;
	} cases[] = {
		{ "", false, false },
		{ "serve_type1=1", true, false },
		{ "serve_type1v2=1", false, true },
		{ "serve_type1=1 serve_type1v2=1", true, true },
	};
	int version;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const bool v1 = cases[i].v1, v2 = cases[i].v2;

		ASSERT_SOUND(module_require(cases[i].parameters));
		ASSERT_SOUND(served_by(VFIO_TYPE1_IOMMU, &version));
		EXPECT_EQ(v1 ? VFIO_PGSIZE_VERSION : 0, version);
		ASSERT_SOUND(served_by(VFIO_TYPE1v2_IOMMU, &version));
		EXPECT_EQ(v2 ? VFIO_PGSIZE_VERSION : 0, version);
		/* vfio_pgsize alone: what is asked before there is a backend. */
		ASSERT_EQ(0, system("rmmod vfio_iommu_type1"));
		EXPECT_EQ(v1, extension_of_none(VFIO_TYPE1_IOMMU));
		EXPECT_EQ(v2, extension_of_none(VFIO_TYPE1v2_IOMMU));
		EXPECT_EQ(1, extension_of_none(VFIO_UNMAP_ALL));
		EXPECT_EQ(0, extension_of_none(VFIO_DMA_CC_IOMMU));
		EXPECT_EQ(v1 ? 0 : -ENODEV, set_type(VFIO_TYPE1_IOMMU));
		EXPECT_EQ(v2 ? 0 : -ENODEV, set_type(VFIO_TYPE1v2_IOMMU));
		ASSERT_SOUND(module_require_none());
		ASSERT_EQ(0, system("modprobe vfio_iommu_type1 allow_unsafe_interrupts=1"));
	}
}

TEST_PROGRAM("VFIO_TYPE1_IOMMU on vfio_iommu_type1 and on vfio_pgsize, and VFIO_TYPE1v2_IOMMU beside.")
