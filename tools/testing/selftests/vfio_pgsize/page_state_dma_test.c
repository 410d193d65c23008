// SPDX-License-Identifier: GPL-2.0
/*
 * Two devices continuously do DMA in pages that stay shared, while their neighbours become private
 * and shared again, and the 2M leaves over them are split and merged: no byte may be lost, and the
 * IOMMU may not log a fault. DMA to a private page faults, and only that.
 */
#include "harness.h"
#include "module.h"
#include "pages.h"
#include "traffic.h"
#include "units.h"

#define AT		GIB(4)
#define SIZE		MIB(16)
#define HALF		(SIZE / 2)
#define NOWHERE		(AT + SIZE)
#define DEVICES		2
#define COPIES		30	/* pages that each device moves in and out */
#define ROUNDS		30	/* minimum number of times that leaves are split and merged */

/* Pages that stay shared: the first of every so many bytes. */
#define STRIDE		KIB(256)

FIXTURE(page_dma) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
	struct traffic traffic[DEVICES];
};

FIXTURE_VARIANT(page_dma) {
	enum backing backing;
	uint64_t sizes;
};

FIXTURE_VARIANT_ADD(page_dma, leaf_2m) { .backing = HUGETLB_2M, .sizes = UPTO_2M };
FIXTURE_VARIANT_ADD(page_dma, leaf_thp) { .backing = THP, .sizes = UPTO_2M };
FIXTURE_VARIANT_ADD(page_dma, leaf_memfd) { .backing = MEMFD, .sizes = UPTO_2M };
FIXTURE_VARIANT_ADD(page_dma, leaf_any) { .backing = HUGETLB_2M, .sizes = ANY_SIZE };

FIXTURE_SETUP(page_dma)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, DEVICES));
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, variant->sizes,
			       SHARED));
	ASSERT_SOUND(pages_agree(&self->pages));
}

FIXTURE_TEARDOWN(page_dma)
{
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

static problem start_traffic(FIXTURE_DATA(page_dma) *self)
{
	problem wrong = NULL;

	for (int i = 0; !wrong && i < DEVICES; i++) {
		self->traffic[i] = (struct traffic){
			.edu = &self->vmm.devices[i].edu,
			.iova = AT + i * HALF,
			.va = self->memory.va + i * HALF,
			.pages = HALF / STRIDE,
			.stride = STRIDE,
			.random = 7 + i,
			.wanted = COPIES,
		};
		wrong = traffic_start(&self->traffic[i]);
	}
	return wrong;
}

/* All but the pages that stay, private or shared, one 2M after the other. */
static problem neighbours(struct pages *pages, uint32_t state)
{
	struct change changes[MIB(2) / STRIDE];

	for (uint64_t at = 0; at < SIZE; at += MIB(2)) {
		problem wrong;

		for (uint64_t i = 0; i < MIB(2) / STRIDE; i++)
			changes[i] = (struct change){ at + i * STRIDE + PAGE, STRIDE - PAGE, state };
		wrong = pages_batch(pages, changes, MIB(2) / STRIDE);
		if (wrong)
			return wrong;
	}
	return NULL;
}

/* One page of each 2M after the other, direct neighbours of those that stay first. */
static problem one_by_one(struct pages *pages, int round, uint32_t state)
{
	problem wrong = NULL;

	for (uint64_t at = 0; !wrong && at < SIZE; at += MIB(2)) {
		uint64_t page = (round / 2 + at / MIB(2)) % 6;

		wrong = pages_set(pages, at + STRIDE * (1 + page) + (page % 2 ? -PAGE : PAGE), PAGE,
				  state);
	}
	return wrong;
}

static problem round_of(struct pages *pages, int round)
{
	bool one = round % 2;
	problem wrong = one ? one_by_one(pages, round, PRIVATE) : neighbours(pages, PRIVATE);

	/* The oracle stops the machine: ask only now and then. */
	if (!wrong)
		wrong = round % 10 ? pages_agree_quickly(pages) : pages_agree(pages);
	if (!wrong)
		wrong = one ? one_by_one(pages, round, SHARED) : neighbours(pages, SHARED);
	if (!wrong)
		wrong = pages_agree_quickly(pages);
	return wrong;
}

TEST_F_TIMEOUT(page_dma, neighbours_come_and_go, 2 * TIMEOUT)
{
	int rounds;

	ASSERT_SOUND(start_traffic(self));
	for (rounds = 0;
	     rounds < ROUNDS || traffic_goes_on(&self->traffic[0]) ||
	     traffic_goes_on(&self->traffic[1]);
	     rounds++) {
		EXPECT_SOUND(round_of(&self->pages, rounds));
		if (_metadata->exit_code)
			break;
	}
	for (int i = 0; i < DEVICES; i++)
		EXPECT_SOUND(traffic_end(&self->traffic[i]));
	TH_LOG("%d transfers while pages went and came %d times", 4 * COPIES, rounds);
	kernel_log_read(&self->vmm.log);
	EXPECT_EQ(0, self->vmm.log.faults);
	EXPECT_SOUND(pages_agree(&self->pages));
}

/* The same, with the changing pages unmapped from the mapping, and mapped again. */
TEST_F_TIMEOUT(page_dma, parts_unmapped, 2 * TIMEOUT)
{
	int container = self->vmm.container;
	int rounds;

	ASSERT_SOUND(pages_unmap(&self->pages));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(start_traffic(self));
	for (rounds = 0;
	     rounds < ROUNDS || traffic_goes_on(&self->traffic[0]) ||
	     traffic_goes_on(&self->traffic[1]);
	     rounds++) {
		uint64_t at = rounds % (SIZE / STRIDE) * STRIDE + PAGE;
		uint64_t size = rounds % 3 ? PAGE : STRIDE - PAGE;

		ASSERT_SOUND(dma_unmap_exactly(container, AT + at, size));
		EXPECT_SOUND(account_rose(&self->vmm.before, (SIZE - size) / PAGE,
					  (SIZE - size) / PAGE));
		ASSERT_EQ(0, dma_map(container, AT + at, self->memory.va + at, size, READ_WRITE));
	}
	for (int i = 0; i < DEVICES; i++)
		EXPECT_SOUND(traffic_end(&self->traffic[i]));
	kernel_log_read(&self->vmm.log);
	EXPECT_EQ(0, self->vmm.log.faults);
}

/*
 * Bytes go through, and no fault is logged before that of an unmapped page: the IOMMU logs in
 * order.
 */
static problem works(FIXTURE_DATA(page_dma) *self, uint64_t from, uint64_t to)
{
	int faults = self->vmm.log.faults;
	uint8_t *va = self->memory.va;
	problem wrong;

	wrong = edu_copy(&self->vmm.devices[1].edu, AT + from, va + from, AT + to, va + to, PAGE);
	if (!wrong)
		wrong = vmm_fetch_faults(&self->vmm, 1, NOWHERE);
	if (!wrong && self->vmm.log.faults != faults + 1)
		wrong = problem_is("DMA from %#lx to %#lx faults", from, to);
	return wrong;
}

/* DMA in this page faults, and changes nothing; its neighbours work. */
static problem only_faults(FIXTURE_DATA(page_dma) *self, uint64_t at)
{
	uint8_t before[PAGE], *va = self->memory.va;
	problem wrong;

	memcpy(before, va + at, PAGE);
	wrong = vmm_store_faults(&self->vmm, 1, AT + at);
	if (!wrong && memcmp(before, va + at, PAGE))
		wrong = problem_is("DMA has changed the private page at offset %#lx", at);
	if (!wrong)
		wrong = vmm_fetch_faults(&self->vmm, 1, AT + at);
	return wrong ? wrong : works(self, at - PAGE, at + PAGE);
}

TEST_F_TIMEOUT(page_dma, private_page_faults, TIMEOUT)
{
	static const uint64_t at[] = { PAGE, MIB(3), MIB(6) - PAGE };

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		ASSERT_SOUND(pages_set(&self->pages, at[i], PAGE, PRIVATE));
		EXPECT_SOUND(only_faults(self, at[i]));
		ASSERT_SOUND(pages_set(&self->pages, at[i], PAGE, SHARED));
		EXPECT_SOUND(works(self, at[i], at[i] - PAGE));
	}
	EXPECT_SOUND(pages_agree(&self->pages));
}

TEST_PROGRAM("Makes the neighbours of pages private and shared while devices do DMA in these.")
