// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO_TYPE1_IOMMU and VFIO_TYPE1v2_IOMMU, served by vfio_pgsize: an unmap that meets a map in
 * progress, which the test build's gates hold (rust/sys/testing.h). The unmap waits, and then
 * gives the answer that it gives of a complete mapping: see type1_v1_test.c.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "calls.h"
#include "gates.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

/* One mapping is complete; the other begins where it ends, and is in progress. */
#define BEFORE		GIB(4)
#define AT		(BEFORE + MIB(2))
#define SIZE		MIB(4)
#define LEFT		MIB(2)		/* the size of the complete one */

FIXTURE(claims) {
	struct vmm vmm;
	struct memory memory;	/* the complete mapping's, and then the other's */
	struct call map;
};

FIXTURE_VARIANT(claims) {
	const char *parameters;
	unsigned long type;
};

FIXTURE_VARIANT_ADD(claims, v1) { "serve_type1=1", VFIO_TYPE1_IOMMU };
FIXTURE_VARIANT_ADD(claims, v2) { "serve_type1v2=1", VFIO_TYPE1v2_IOMMU };

typedef FIXTURE_DATA(claims) Claims;

FIXTURE_SETUP(claims)
{
	ASSERT_SOUND(module_require(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, LEFT + SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
	ASSERT_SOUND(vmm_map(&self->vmm, BEFORE, self->memory.va, LEFT, READ_WRITE));
}

FIXTURE_TEARDOWN(claims)
{
	EXPECT_SOUND(gates_set(&(struct gates){}));
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
	EXPECT_SOUND(module_require(""));
}

/* The map at AT begins, and is held. */
static problem hold(Claims *self)
{
	self->map = (struct call){
		.container = self->vmm.container, .what = MAP, .iova = AT,
		.va = self->memory.va + LEFT, .size = SIZE, .flags = READ_WRITE,
	};
	return call_hold(&self->map);
}

/* An unmap begins while the map is held, and waits for it; the map goes on, and both end. */
static problem meet(Claims *self, struct call *unmap, uint64_t iova, uint64_t size)
{
	problem wrong = hold(self);

	*unmap = (struct call){
		.container = self->vmm.container, .what = UNMAP, .iova = iova, .size = size,
	};
	if (!wrong)
		wrong = call_begin(unmap);
	if (wrong)
		return wrong;
	usleep(100000);
	if (call_has_returned(unmap))
		wrong = problem_is("the unmap did not wait");
	if (!wrong)
		wrong = call_let_go(&self->map);
	pthread_join(unmap->thread, NULL);
	return wrong;
}

/* Are these mappings there, and no others? */
static problem has_just(Claims *self, bool before, bool at)
{
	const uint64_t sizes = self->vmm.sizes, pages = (before * LEFT + at * SIZE) / PAGE;
	struct leaves expected = {};
	problem wrong = NULL;

	if (before)
		wrong = leaves_tile(&expected, BEFORE, self->memory.va, LEFT, sizes, READ_WRITE);
	if (!wrong && at)
		wrong = leaves_tile(&expected, AT, self->memory.va + LEFT, SIZE, sizes, READ_WRITE);
	if (!wrong)
		wrong = vmm_has_leaves(&self->vmm, &expected);
	leaves_free(&expected);
	return wrong ? wrong : account_rose(&self->vmm.before, pages, pages);
}

TEST_F_TIMEOUT(claims, unmap_waits, TIMEOUT)
{
	/* v1 takes a mapping that begins in the range, whole; none if one begins before the range. */
	static const struct {
		uint64_t iova, size;
		bool takes_before, takes_at;
		bool crosses;			/* v2 refuses, and takes nothing */
	} cases[] = {
		{ AT, SIZE, false, true, false },
		{ BEFORE, LEFT + SIZE, true, true, false },
		{ AT, PAGE, false, true, true },
		{ AT, SIZE - PAGE, false, true, true },
		{ BEFORE, LEFT + PAGE, true, true, true },
		{ AT + PAGE, PAGE, false, false, true },
		{ AT + MIB(1), SIZE, false, false, true },
		{ AT - PAGE, 2 * PAGE, false, false, true },
		{ AT - PAGE, PAGE + SIZE, false, false, true },
	};
	const bool v1 = variant->type == VFIO_TYPE1_IOMMU;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const bool refused = !v1 && cases[i].crosses;
		const bool before = !refused && cases[i].takes_before;
		const bool at = !refused && cases[i].takes_at;
		struct call unmap;
		uint64_t size = 0;

		ASSERT_SOUND(meet(self, &unmap, cases[i].iova, cases[i].size)) {
			TH_LOG("case %zu", i);
		}
		EXPECT_EQ(0, self->map.ret);
		EXPECT_EQ(refused ? -EINVAL : 0, unmap.ret) {
			TH_LOG("case %zu", i);
		}
		size = cases[i].size;
		if (!refused)
			size = before * LEFT + at * SIZE;
		EXPECT_EQ(size, unmap.size) {
			TH_LOG("case %zu", i);
		}
		ASSERT_SOUND(has_just(self, !before, !at)) {
			TH_LOG("case %zu", i);
		}
		size = 0;
		ASSERT_EQ(0, dma_unmap(self->vmm.container, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL));
		ASSERT_SOUND(vmm_map(&self->vmm, BEFORE, self->memory.va, LEFT, READ_WRITE));
	}
}

/* A map that fails leaves nothing to unmap, however much of it is in the range. */
TEST_F_TIMEOUT(claims, unmap_of_what_fails, TIMEOUT)
{
	static const struct {
		uint64_t iova, size;
	} cases[] = { { AT, SIZE }, { AT, PAGE }, { AT + PAGE, PAGE } };

	ASSERT_EQ(0, munmap(self->memory.va + LEFT + SIZE - MIB(2), MIB(2)));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct call unmap;

		ASSERT_SOUND(meet(self, &unmap, cases[i].iova, cases[i].size));
		EXPECT_EQ(-EFAULT, self->map.ret);
		EXPECT_EQ(0, unmap.ret);
		EXPECT_EQ(0, unmap.size);
		EXPECT_SOUND(has_just(self, true, false));
	}
}

/* The neighbour goes, whole or not at all, while the map is in progress: that is not waited for. */
TEST_F_TIMEOUT(claims, neighbour_does_not_wait, TIMEOUT)
{
	const bool v1 = variant->type == VFIO_TYPE1_IOMMU;
	uint64_t size = PAGE;

	ASSERT_SOUND(hold(self));
	EXPECT_EQ(v1 ? 0 : -EINVAL, dma_unmap(self->vmm.container, AT - PAGE, &size, 0));
	EXPECT_EQ(v1 ? 0 : PAGE, size);
	EXPECT_FALSE(call_has_returned(&self->map));
	size = v1 ? PAGE : LEFT;
	/* The map was held until this. */
	EXPECT_EQ(0, dma_unmap(self->vmm.container, BEFORE, &size, 0));
	EXPECT_EQ(LEFT, size);
	EXPECT_SOUND(call_end(&self->map));
	EXPECT_EQ(0, self->map.ret);
	EXPECT_SOUND(has_just(self, false, true));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va + LEFT, SIZE));
}

TEST_PROGRAM("Unmaps on VFIO_TYPE1_IOMMU and VFIO_TYPE1v2_IOMMU that meet a map in progress.")
