// SPDX-License-Identifier: GPL-2.0
/*
 * Dirty tracking without an IOMMU that has dirty bits: vfio_iommu_type1 and vfio_pgsize
 * give the same answers, to the bit; and they refuse alike, whatever IOMMU there is.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "backends.h"
#include "dirty.h"
#include "harness.h"
#include "module.h"
#include "refused.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(8)
#define UNMAP	VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
#define ALL	VFIO_DMA_UNMAP_FLAG_ALL
#define VADDR	VFIO_DMA_UNMAP_FLAG_VADDR

/* What is in the bitmap beforehand. */
#define BEFORE	0xa5a5a5a5a5a5a5a5ULL
/* A bitmap's size that is as large as it may be, and one that is too large. */
#define MOST	(1ULL << 28)

FIXTURE(dirty_type1) {
	struct vmm vmm;
	struct memory memory;
};

BACKENDS(dirty_type1);

FIXTURE_SETUP(dirty_type1)
{
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
}

FIXTURE_TEARDOWN(dirty_type1)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* Mappings at pages from AT on. */
struct piece {
	uint64_t first;
	uint64_t pages;
};

static const struct piece pieces[] = {
	{ 3, 4 }, { 10, 2 }, { 64, 136 }, { 386, 10 }, { 448, 64 }, { 512, 1 }
};

#define SPAN	(1024 * PAGE)
#define WORDS	(SPAN / PAGE / 64)

static problem map_pieces(FIXTURE_DATA(dirty_type1) *self)
{
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		problem wrong = vmm_map(&self->vmm, AT + pieces[i].first * PAGE,
					self->memory.va + pieces[i].first * PAGE,
					pieces[i].pages * PAGE, READ_WRITE);

		if (wrong)
			return wrong;
	}
	return NULL;
}

static uint64_t bits(int first, int nr)
{
	return (nr == 64 ? ~0ULL : (1ULL << nr) - 1) << first;
}

/*
 * A word in which a mapping begins keeps what it had, unless the mapping begins with
 * it; others that mappings have bits in are written, whole; and no others.
 */
static void expect_pieces(uint64_t *words, uint64_t before)
{
	for (uint64_t i = 0; i < WORDS; i++)
		words[i] = before;
	words[0] = before | bits(3, 4) | bits(10, 2);
	words[1] = ~0ULL;
	words[2] = ~0ULL;
	words[3] = bits(0, 8);
	words[6] = before | bits(2, 10);
	words[7] = ~0ULL;
	words[8] = bits(0, 1);
}

static problem same_words(const uint64_t *expected, const uint64_t *found, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++) {
		if (expected[i] != found[i])
			return problem_is("word %lu is %#lx, not %#lx", i, found[i], expected[i]);
	}
	return NULL;
}

TEST_F_TIMEOUT(dirty_type1, what_is_mapped_is_dirty, TIMEOUT)
{
	uint64_t expected[WORDS], found[WORDS];
	int container = self->vmm.container;
	struct info info;

	ASSERT_SOUND(container_info(container, &info));
	EXPECT_EQ(PAGE, info.migration_pgsizes);
	EXPECT_EQ(MOST, info.max_dirty_bitmap);

	ASSERT_SOUND(map_pieces(self));
	EXPECT_EQ(-EINVAL, dirty_get(container, AT, SPAN, found));
	ASSERT_EQ(0, dirty_start(container));
	/*
	 * type1 itself is asked once: it shifts its bitmap in place for a mapping that begins
	 * within a word, and adds what it shifted out to later answers (update_user_bitmap()).
	 */
	for (int round = 0; round < (variant->parameters ? 3 : 1); round++) {
		uint64_t before = round < 2 ? 0 : BEFORE;

		memset(found, before & 0xff, sizeof(found));
		ASSERT_EQ(0, dirty_get(container, AT, SPAN, found));
		expect_pieces(expected, before);
		EXPECT_SOUND(same_words(expected, found, WORDS));
	}
	/* Of nothing, nothing is written. */
	memset(found, BEFORE & 0xff, sizeof(found));
	ASSERT_EQ(0, dirty_get(container, AT + 1024 * PAGE, SPAN, found));
	for (uint64_t i = 0; i < WORDS; i++)
		EXPECT_EQ(BEFORE, found[i]);
	ASSERT_EQ(0, dirty_stop(container));
	EXPECT_EQ(-EINVAL, dirty_get(container, AT, SPAN, found));
}

/* A mapping that is made meanwhile; another group; leaves stay as they are. */
TEST_F_TIMEOUT(dirty_type1, meanwhile, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_EQ(0, dirty_start(container));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ANY_SIZE, READ_WRITE));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
	vmm_detach(&self->vmm, 1);
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
	ASSERT_EQ(0, dirty_stop(container));
	ASSERT_EQ(0, dirty_start(container));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
}

TEST_F_TIMEOUT(dirty_type1, unmap_tells, TIMEOUT)
{
	uint64_t expected[WORDS], found[WORDS], size = SPAN;
	int container = self->vmm.container;

	ASSERT_SOUND(map_pieces(self));
	EXPECT_EQ(-EINVAL, dirty_unmap(container, AT, &size, found));
	ASSERT_EQ(0, dirty_start(container));
	memset(found, BEFORE & 0xff, sizeof(found));
	EXPECT_EQ(0, dirty_unmap(container, AT, &size, found));
	EXPECT_EQ(220 * PAGE - 3 * PAGE, size);
	expect_pieces(expected, BEFORE);
	EXPECT_SOUND(same_words(expected, found, WORDS));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));

	size = SPAN;
	EXPECT_EQ(0, dirty_unmap(container, AT, &size, found));
	EXPECT_EQ(0, size);
}

/* --- what is refused ----------------------------------------------------- */

#define ARGSZ_GET	48
#define ARGSZ_UNMAP	48

struct wrong_get {
	int error;
	uint32_t argsz;
	uint64_t iova, size, pgsize, bytes;
	uintptr_t bitmap;	/* 0: there is one */
	bool part;		/* of a mapping, which VFIO_PGSIZE_IOMMU does */
};

/* With a mapping of SIZE at AT. */
static const struct wrong_get wrong_gets[] = {
	{ EINVAL, 0, AT, SIZE, PAGE, 256 },
	{ EINVAL, 8, AT, SIZE, PAGE, 256 },
	{ EINVAL, ARGSZ_GET - 1, AT, SIZE, PAGE, 256 },
	{ EINVAL, ARGSZ_GET, AT, 0, PAGE, 256 },
	{ EOVERFLOW, ARGSZ_GET, EVERYWHERE, 2 * PAGE, PAGE, 256 },
	{ EOVERFLOW, ARGSZ_GET, AT, ~0ULL, PAGE, 256 },
	{ EINVAL, ARGSZ_GET, AT, SIZE, PAGE, 0 },
	{ EINVAL, ARGSZ_GET, AT, SIZE, PAGE, 255 },
	{ EINVAL, ARGSZ_GET, AT, SIZE, PAGE, MOST + 8 },
	{ EINVAL, ARGSZ_GET, AT, SIZE, PAGE, 256, 1UL << 63 },
	{ EFAULT, ARGSZ_GET, AT, SIZE, PAGE, 256, 8 },
	{ EINVAL, ARGSZ_GET, AT, SIZE, MIB(2), 256 },
	{ EINVAL, ARGSZ_GET, AT, SIZE, 512, 2048 },
	{ EINVAL, ARGSZ_GET, AT, SIZE, PAGE | MIB(2), 256 },
	{ EINVAL, ARGSZ_GET, AT + 1, SIZE, PAGE, 264 },
	{ EINVAL, ARGSZ_GET, AT, SIZE + 1, PAGE, 264 },
	{ EINVAL, ARGSZ_GET, AT, PAGE - 1, PAGE, 8 },
	{ EINVAL, ARGSZ_GET, AT, PAGE, PAGE, 8, .part = true },
	{ EINVAL, ARGSZ_GET, AT - PAGE, SIZE, PAGE, 256, .part = true },
	{ EINVAL, ARGSZ_GET, AT + PAGE, SIZE, PAGE, 256, .part = true },
};

TEST_F_TIMEOUT(dirty_type1, wrong_gets, TIMEOUT)
{
	int container = self->vmm.container;
	static uint64_t bitmap[512];

	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_EQ(0, dirty_start(container));
	for (size_t i = 0; i < ARRAY_SIZE(wrong_gets); i++) {
		const struct wrong_get *get = &wrong_gets[i];
		bool fine = get->part && variant->type == VFIO_PGSIZE_IOMMU;
		const void *place = get->bitmap ? (void *)get->bitmap : bitmap;

		TH_LOG("request %zu", i);
		EXPECT_EQ(fine ? 0 : -get->error,
			  dirty_get_with(container, get->argsz, get->iova, get->size, get->pgsize,
					 get->bytes, place));
	}
	/* A bitmap may be larger than is needed. */
	EXPECT_EQ(0, dirty_get_with(container, ARGSZ_GET, AT, SIZE, PAGE, sizeof(bitmap), bitmap));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 0, SIZE / PAGE })));
}

TEST_F_TIMEOUT(dirty_type1, wrong_flags, TIMEOUT)
{
	static const uint32_t flags[] = { 0, 3, 5, 6, 7, 8, 1U << 31, 9 };
	struct vfio_iommu_type1_dirty_bitmap request = { .argsz = sizeof(request) }, *head;
	int container = self->vmm.container;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		request.flags = flags[i];
		EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &request));
		EXPECT_EQ(EINVAL, errno);
	}
	request.argsz = sizeof(request) - 1;
	request.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &request));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_DIRTY_PAGES, NULL));
	EXPECT_EQ(EFAULT, errno);
	/* The head can be read, and nothing behind it. */
	head = (void *)(edge_of_memory() - sizeof(*head));
	*head = request;
	head->argsz = ARGSZ_GET;
	head->flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_DIRTY_PAGES, head));
	EXPECT_EQ(EFAULT, errno);
	/* None of these has begun anything. */
	EXPECT_EQ(-EINVAL, dirty_get_with(container, ARGSZ_GET, AT, SIZE, PAGE, 256, &request));
}

struct wrong_unmap {
	int error;
	uint32_t argsz, flags;
	uint64_t iova, size, pgsize, bytes;
	uintptr_t bitmap;
	bool part;
};

static const struct wrong_unmap wrong_unmaps[] = {
	{ EINVAL, ARGSZ_UNMAP - 1, UNMAP, AT, SIZE, PAGE, 256 },
	{ EINVAL, 24, UNMAP, AT, SIZE, PAGE, 256 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP | ALL, AT, SIZE, PAGE, 256 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP | ALL, 0, 0, PAGE, 256 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP | VADDR, AT, SIZE, PAGE, 256 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP | 8, AT, SIZE, PAGE, 256 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, 0, PAGE, 256 },
	{ EOVERFLOW, ARGSZ_UNMAP, UNMAP, EVERYWHERE, 2 * PAGE, PAGE, 256 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, SIZE, PAGE, 0 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, SIZE, PAGE, 255 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, SIZE, PAGE, MOST + 8 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, SIZE, PAGE, 256, 1UL << 63 },
	{ EFAULT, ARGSZ_UNMAP, UNMAP, AT, SIZE, PAGE, 256, 8 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, SIZE, MIB(2), 256 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, SIZE, 512, 2048 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT + 1, SIZE, PAGE, 264 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, SIZE + 1, PAGE, 264 },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT, PAGE, PAGE, 8, .part = true },
	{ EINVAL, ARGSZ_UNMAP, UNMAP, AT + PAGE, SIZE, PAGE, 256, .part = true },
};

TEST_F_TIMEOUT(dirty_type1, wrong_unmaps, TIMEOUT)
{
	int container = self->vmm.container;
	struct vfio_iommu_type1_dma_unmap *head = (void *)(edge_of_memory() - sizeof(*head));
	static uint64_t bitmap[512];

	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_EQ(0, dirty_start(container));
	*head = (struct vfio_iommu_type1_dma_unmap){
		.argsz = ARGSZ_UNMAP, .flags = UNMAP, .iova = AT, .size = SIZE
	};
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_UNMAP_DMA, head));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_SOUND(account_rose(&self->vmm.before, SIZE / PAGE, SIZE / PAGE));
	for (size_t i = 0; i < ARRAY_SIZE(wrong_unmaps); i++) {
		const struct wrong_unmap *unmap = &wrong_unmaps[i];
		const void *place = unmap->bitmap ? (void *)unmap->bitmap : bitmap;
		uint64_t size = unmap->size;

		if (unmap->part && variant->type == VFIO_PGSIZE_IOMMU)
			continue;
		TH_LOG("request %zu", i);
		EXPECT_EQ(-unmap->error,
			  dirty_unmap_with(container, unmap->argsz, unmap->flags, unmap->iova,
					   &size, unmap->pgsize, unmap->bytes, place));
		EXPECT_EQ(unmap->size, size);
		EXPECT_SOUND(account_rose(&self->vmm.before, SIZE / PAGE, SIZE / PAGE));
	}
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ANY_SIZE, READ_WRITE));
}

TEST_PROGRAM("Dirty tracking as vfio_iommu_type1 has it.")
