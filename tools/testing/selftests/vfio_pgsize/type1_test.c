// SPDX-License-Identifier: GPL-2.0
/*
 * Without a policy vfio_pgsize behaves like vfio_iommu_type1: the same requests go to both, and the
 * answers are compared.
 */
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(8)

/* Who serves: type1 itself; vfio_pgsize in its place; vfio_pgsize by its own type. */
struct backend {
	const char *name;
	const char *parameters;		/* of vfio_pgsize; NULL: not loaded */
	unsigned long type;
};

static const struct backend backends[] = {
	{ "vfio_iommu_type1", NULL, VFIO_TYPE1v2_IOMMU },
	{ "vfio_pgsize as type1v2", "serve_type1v2=1", VFIO_TYPE1v2_IOMMU },
	{ "vfio_pgsize", "", VFIO_PGSIZE_IOMMU },
};

FIXTURE(type1) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_VARIANT(type1) {
	const struct backend *backend;
};

FIXTURE_VARIANT_ADD(type1, type1) { .backend = &backends[0] };
FIXTURE_VARIANT_ADD(type1, pgsize_as_type1v2) { .backend = &backends[1] };
FIXTURE_VARIANT_ADD(type1, pgsize) { .backend = &backends[2] };

FIXTURE_SETUP(type1)
{
	ASSERT_SOUND(module_serve(variant->backend->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->backend->type, 1));
}

FIXTURE_TEARDOWN(type1)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

TEST_F_TIMEOUT(type1, who_serves, TIMEOUT)
{
	int expected = variant->backend->parameters ? VFIO_PGSIZE_VERSION : 0;

	EXPECT_EQ(expected, container_extension(self->vmm.container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(1, container_extension(self->vmm.container, VFIO_TYPE1_IOMMU));
	EXPECT_EQ(1, container_extension(self->vmm.container, VFIO_TYPE1v2_IOMMU));
	EXPECT_EQ(1, container_extension(self->vmm.container, VFIO_UNMAP_ALL));
	EXPECT_EQ(0, container_extension(self->vmm.container, 0x7fffff00));
}

TEST_F_TIMEOUT(type1, leaves_and_bytes, TIMEOUT)
{
	static const enum backing backings[] = { ANON_4K, THP, HUGETLB_2M, MEMFD, MIXED };

	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		struct memory memory = {};
		uint64_t pages;

		ASSERT_SOUND(memory_alloc(&memory, backings[i], SIZE));
		pages = memory.size / PAGE;
		ASSERT_SOUND(vmm_map(&self->vmm, AT, memory.va, memory.size, READ_WRITE));
		EXPECT_SOUND(account_rose(&self->vmm.before, pages, pages));
		EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, memory.va, memory.size, ANY_SIZE,
					   READ_WRITE));
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, memory.va, memory.size));
		EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, memory.size));
		EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
		EXPECT_SOUND(vmm_has_nothing(&self->vmm));
		memory_free(&memory);
	}
}

TEST_F_TIMEOUT(type1, unmap_all, TIMEOUT)
{
	uint64_t size = 0;

	for (int i = 0; i < 4; i++) {
		ASSERT_SOUND(vmm_map(&self->vmm, AT + i * MIB(4), self->memory.va + i * MIB(1),
				     MIB(1), READ_WRITE));
	}
	EXPECT_EQ(0, dma_unmap(self->vmm.container, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL));
	EXPECT_EQ(MIB(4), size);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, AT));
}

/* A group that joins later reaches existing mappings. */
TEST_F_TIMEOUT(type1, replay, TIMEOUT)
{
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ANY_SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT, self->memory.va, SIZE));
	EXPECT_SOUND(account_rose(&self->vmm.before, SIZE / PAGE, SIZE / PAGE));
}

/* --- how many mappings there may be -------------------------------------- */

#define TYPE1_LIMIT	"/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"

static problem limit_type1(unsigned int limit)
{
	FILE *file = fopen(TYPE1_LIMIT, "w");

	if (!file || fprintf(file, "%u", limit) < 0 || fclose(file))
		return problem_is(TYPE1_LIMIT ": %m");
	return NULL;
}

static void reach_limit(struct __test_metadata *_metadata, unsigned long type)
{
	struct memory memory = {};
	struct vmm vmm;
	struct info info;

	ASSERT_SOUND(memory_alloc(&memory, ANON_4K, 4 * PAGE));
	ASSERT_SOUND(vmm_open(&vmm, type, 1));
	for (int i = 0; i < 3; i++) {
		ASSERT_SOUND(container_info(vmm.container, &info));
		EXPECT_EQ(3 - i, info.dma_avail);
		ASSERT_SOUND(vmm_map(&vmm, AT + i * PAGE, memory.va, PAGE, READ_WRITE));
	}
	ASSERT_SOUND(container_info(vmm.container, &info));
	EXPECT_EQ(0, info.dma_avail);
	EXPECT_EQ(-ENOSPC, dma_map(vmm.container, AT + 3 * PAGE, memory.va, PAGE, READ_WRITE));
	/* An overlapping one gets that error first. */
	EXPECT_EQ(-EEXIST, dma_map(vmm.container, AT, memory.va, PAGE, READ_WRITE));
	EXPECT_SOUND(account_rose(&vmm.before, 3, 3));
	EXPECT_SOUND(dma_unmap_exactly(vmm.container, AT + PAGE, PAGE));
	EXPECT_EQ(0, dma_map(vmm.container, AT + 3 * PAGE, memory.va, PAGE, READ_WRITE));
	EXPECT_SOUND(vmm_close(&vmm));
	memory_free(&memory);
}

/* For tests of more than one backend. */
FIXTURE(backends) {
	int unused;
};

FIXTURE_SETUP(backends)
{
}

FIXTURE_TEARDOWN(backends)
{
	huge_pages_release();
}

TEST_F_TIMEOUT(backends, entry_limit_of_type1, TIMEOUT)
{
	ASSERT_SOUND(module_require_none());
	ASSERT_SOUND(limit_type1(3));
	reach_limit(_metadata, VFIO_TYPE1v2_IOMMU);
	EXPECT_SOUND(limit_type1(UINT16_MAX));
}

TEST_F_TIMEOUT(backends, entry_limit_of_pgsize, TIMEOUT)
{
	ASSERT_SOUND(module_require("dma_entry_limit=3"));
	reach_limit(_metadata, VFIO_PGSIZE_IOMMU);
	EXPECT_SOUND(module_require(""));
}

/* --- the same requests to each ------------------------------------------- */

/* Two 2M pages mapped at AT and at AT + 4M, then these requests in order. */
struct request {
	char what;		/* m: map, u: unmap */
	uint64_t iova;
	uint64_t size;
	uint32_t flags;
	uint64_t skip;		/* map: from the memory's start; NOWHERE: unmapped memory */
	bool part;		/* unmap: of a part, which VFIO_PGSIZE_IOMMU supports */
};

#define NOWHERE	(1ULL << 40)
#define RW	READ_WRITE
#define ALL	VFIO_DMA_UNMAP_FLAG_ALL
#define DIRTY	VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP

static const struct request requests[] = {
	/* maps that are refused */
	{ 'm', AT, MIB(2), RW },			/* there already */
	{ 'm', AT + MIB(1), PAGE, RW },			/* within one */
	{ 'm', AT - PAGE, 2 * PAGE, RW },		/* over a start */
	{ 'm', AT + MIB(2) - PAGE, 2 * PAGE, RW },	/* over an end */
	{ 'm', 0, GIB(2), RW },				/* over both */
	{ 'm', GIB(2), 0, RW },
	{ 'm', GIB(2), PAGE, 0 },
	{ 'm', GIB(2), PAGE, 1 << 3 },
	{ 'm', GIB(2), PAGE, VFIO_DMA_MAP_FLAG_VADDR | RW },
	{ 'm', GIB(2) + 1, PAGE, RW },
	{ 'm', GIB(2), PAGE + 1, RW },
	{ 'm', GIB(2), PAGE, RW, 1 },
	{ 'm', EVERYWHERE, 2 * PAGE, RW },
	{ 'm', GIB(2), ~0ULL, RW },
	{ 'm', GIB(2), PAGE, RW, NOWHERE },
	{ 'm', 0xfee00000, PAGE, RW },			/* interrupts */
	{ 'm', 0xfedff000, MIB(2), RW },
	{ 'm', 0xfd00000000, PAGE, RW },		/* HyperTransport */
	/* maps that succeed */
	{ 'm', 1ULL << 60, PAGE, RW },
	/* All but the last page: IOMMU_DEBUG_PAGEALLOC warns about it, with type1, too. */
	{ 'm', EVERYWHERE - PAGE, PAGE, RW },
	{ 'm', GIB(2), PAGE, VFIO_DMA_MAP_FLAG_READ },
	{ 'm', GIB(2) + PAGE, PAGE, VFIO_DMA_MAP_FLAG_WRITE },
	{ 'm', 0xfedff000, PAGE, RW },
	{ 'm', 0xfef00000, PAGE, RW },
	{ 'm', 0, PAGE, RW },
	/* unmaps that are refused */
	{ 'u', AT, MIB(1), 0, .part = true },		/* a part: the head */
	{ 'u', AT + MIB(1), MIB(1), 0, .part = true },	/* the tail */
	{ 'u', AT + PAGE, PAGE, 0, .part = true },	/* the middle */
	{ 'u', AT - MIB(2), MIB(3), 0, .part = true },
	{ 'u', AT, MIB(5), 0, .part = true },		/* one and a half */
	{ 'u', AT, 0, 0 },
	{ 'u', AT + 1, PAGE, 0 },
	{ 'u', AT, PAGE + 1, 0 },
	{ 'u', EVERYWHERE, 2 * PAGE, 0 },
	{ 'u', AT, MIB(2), 1 << 3 },
	{ 'u', AT, MIB(2), ALL },
	{ 'u', 0, MIB(2), ALL },
	{ 'u', AT, MIB(2), DIRTY },
	{ 'u', 0, 0, ALL | DIRTY },
	/* unmaps that succeed */
	{ 'u', GIB(3), MIB(2), 0 },			/* of nothing */
	{ 'u', EVERYWHERE, PAGE, 0 },
	{ 'u', GIB(2), GIB(1), 0 },			/* of more than is mapped */
	{ 'u', AT, MIB(6), 0 },				/* of two, and what is between */
	{ 'u', AT, MIB(6), 0 },				/* again */
	{ 'u', 0, EVERYWHERE, 0 },
	{ 'u', 0, 0, ALL },				/* of nothing */
};

struct answer {
	int ret;
	uint64_t size;
	int dma_avail;
	struct account account;
};

struct answers {
	struct answer to[ARRAY_SIZE(requests)];
	struct info info;
	int coherent;
};

static problem ask(const struct backend *backend, struct answers *answers)
{
	struct memory memory = {};
	struct vmm vmm;
	problem wrong = module_serve(backend->parameters);

	if (!wrong)
		wrong = memory_alloc(&memory, HUGETLB_2M, MIB(4));
	if (!wrong)
		wrong = vmm_open(&vmm, backend->type, 1);
	if (!wrong)
		wrong = container_info(vmm.container, &answers->info);
	if (!wrong)
		wrong = vmm_map(&vmm, AT, memory.va, MIB(2), READ_WRITE);
	if (!wrong)
		wrong = vmm_map(&vmm, AT + MIB(4), memory.va + MIB(2), MIB(2), READ_WRITE);
	for (size_t i = 0; !wrong && i < ARRAY_SIZE(requests); i++) {
		const struct request *request = &requests[i];
		struct answer *answer = &answers->to[i];
		struct info info;

		answer->size = request->size;
		if (request->part && backend->type == VFIO_PGSIZE_IOMMU)
			continue;
		if (request->what == 'm')
			answer->ret = dma_map(vmm.container, request->iova,
					      memory.va + request->skip, request->size,
					      request->flags);
		else
			answer->ret = dma_unmap(vmm.container, request->iova, &answer->size,
						request->flags);
		wrong = container_info(vmm.container, &info);
		answer->dma_avail = info.dma_avail;
		if (!wrong)
			wrong = account_read(&answer->account);
		answer->account.locked -= vmm.before.locked;
		answer->account.pinned -= vmm.before.pinned;
	}
	if (wrong)
		return problem_is("%s: %s", backend->name, wrong);
	answers->coherent = container_extension(vmm.container, VFIO_DMA_CC_IOMMU);
	memory_free(&memory);
	wrong = vmm_close(&vmm);
	huge_pages_release();
	return wrong;
}

static void compare(struct __test_metadata *_metadata, const char *name,
		    const struct answers *type1, const struct answers *other, bool parts)
{
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		const struct answer *expected = &type1->to[i], *seen = &other->to[i];

		if (requests[i].part && parts)
			continue;
		EXPECT_EQ(0, memcmp(expected, seen, sizeof(*expected))) {
			TH_LOG("%c %#lx %#lx flags %u: type1 answers %d, size %#lx, %d left, %ld locked, %ld pinned; %s %d, %#lx, %d, %ld, %ld",
			       requests[i].what, requests[i].iova, requests[i].size,
			       requests[i].flags, expected->ret, expected->size,
			       expected->dma_avail, expected->account.locked,
			       expected->account.pinned, name, seen->ret, seen->size,
			       seen->dma_avail, seen->account.locked, seen->account.pinned);
		}
	}
	EXPECT_EQ(type1->info.flags, other->info.flags);
	EXPECT_EQ(type1->info.pgsizes, other->info.pgsizes);
	EXPECT_EQ(type1->info.dma_avail, other->info.dma_avail);
	ASSERT_EQ(type1->info.nr_ranges, other->info.nr_ranges);
	for (uint32_t i = 0; i < type1->info.nr_ranges; i++) {
		EXPECT_EQ(type1->info.ranges[i].start, other->info.ranges[i].start);
		EXPECT_EQ(type1->info.ranges[i].end, other->info.ranges[i].end);
	}
	EXPECT_EQ(type1->coherent, other->coherent);
}

TEST_F_TIMEOUT(backends, same_answers, 2 * TIMEOUT)
{
	static struct answers answers[ARRAY_SIZE(backends)];
	int refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
		ASSERT_SOUND(ask(&backends[i], &answers[i]));
	}
	for (size_t i = 1; i < ARRAY_SIZE(backends); i++)
		compare(_metadata, backends[i].name, &answers[0], &answers[i],
			backends[i].type == VFIO_PGSIZE_IOMMU);
	/* The requests match the comments above: type1 itself refuses exactly these. */
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		refused += answers[0].to[i].ret != 0;
	EXPECT_EQ(32, refused);
	EXPECT_EQ(0, answers[0].info.policy.header.id);
	EXPECT_NE(0, answers[1].info.policy.header.id);
	EXPECT_NE(0, answers[2].info.policy.header.id);
}

TEST_PROGRAM("Compares vfio_pgsize with vfio_iommu_type1, request by request.")
