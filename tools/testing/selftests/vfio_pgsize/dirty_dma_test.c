// SPDX-License-Identifier: GPL-2.0
/*
 * No write is lost: devices write all the time, while whoever watches the bitmaps
 * copies the pages that they name, as in a migration. Whatever happens to the leaves
 * meanwhile, the copy equals the memory in the end.
 */
#include <pthread.h>
#include <stdlib.h>

#include "dirty.h"
#include "harness.h"
#include "module.h"
#include "pages.h"
#include "units.h"
#include "vmm.h"

#define AT		GIB(4)
#define SIZE		MIB(8)
#define PAGES		(SIZE / PAGE)
#define SCRATCH		GIB(2)	/* what the devices read from, a page each */
#define TRACKING	VFIO_PGSIZE_POLICY_TRACKING
#define APPLY		VFIO_PGSIZE_POLICY_APPLY
#define DEVICES		2
#define ROUNDS		30
#define WRITES		60	/* that each device makes, at least */

/* The devices write the first page of every so many bytes, and no other. */
#define STRIDE		KIB(64)

/* A device that writes what is new in some page, again and again. */
struct writer {
	struct edu *edu;
	uint64_t scratch;
	uint8_t *scratch_va;
	uint32_t random;
	uint64_t writes;
	bool enough;
	bool runs;
	char wrong[256];
	pthread_t thread;
};

FIXTURE(dirty_dma) {
	struct vmm vmm;
	struct memory memory, scratch;
	struct pages pages;
	struct writer writers[DEVICES];
	uint8_t *copy;
	uint64_t *bitmap;
	uint64_t told;
};

enum what {
	NOTHING,
	SIZES,		/* leaves are merged to 2M and split, while tracking is on */
	STATES,		/* pages between those that are written become private and shared */
	PARTS,		/* they are unmapped, and mapped again */
	GROUPS,		/* the second device's group leaves and comes back */
	RESTARTS,	/* tracking ends and begins again */
};

FIXTURE_VARIANT(dirty_dma) {
	enum what what;
	enum backing backing;
	const char *parameters;
};

#define VARIANT(name, ...) FIXTURE_VARIANT_ADD(dirty_dma, name) { __VA_ARGS__ }

VARIANT(nothing_else, .what = NOTHING, .backing = HUGETLB_2M, .parameters = "");
VARIANT(nothing_else_4k, .what = NOTHING, .backing = ANON_4K, .parameters = "");
VARIANT(leaf_sizes, .what = SIZES, .backing = HUGETLB_2M, .parameters = "");
VARIANT(page_states, .what = STATES, .backing = HUGETLB_2M, .parameters = "");
VARIANT(parts, .what = PARTS, .backing = HUGETLB_2M, .parameters = "");
VARIANT(groups, .what = GROUPS, .backing = HUGETLB_2M, .parameters = "");
VARIANT(groups_apart, .what = GROUPS, .backing = HUGETLB_2M, .parameters = "own_domains=1");
VARIANT(restarts, .what = RESTARTS, .backing = HUGETLB_2M, .parameters = "");

FIXTURE_SETUP(dirty_dma)
{
	ASSERT_SOUND(module_require(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, SIZE));
	ASSERT_SOUND(memory_alloc(&self->scratch, ANON_4K, DEVICES * PAGE));
	self->copy = malloc(SIZE);
	self->bitmap = malloc(DIRTY_BYTES(SIZE));
	ASSERT_TRUE(self->copy && self->bitmap);
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, DEVICES));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_SOUND(vmm_map(&self->vmm, SCRATCH, self->scratch.va, DEVICES * PAGE,
			     VFIO_DMA_MAP_FLAG_READ));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE,
			     READ_WRITE | (variant->what == STATES ? STATEFUL | VFIO_PGSIZE_MAP_SHARED : 0)));
}

FIXTURE_TEARDOWN(dirty_dma)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(module_require(""));
	memory_free(&self->memory);
	memory_free(&self->scratch);
	free(self->copy);
	free(self->bitmap);
	huge_pages_release();
}

static void *write_on(void *arg)
{
	struct writer *writer = arg;

	while (!__atomic_load_n(&writer->enough, __ATOMIC_RELAXED)) {
		uint64_t page;
		problem wrong;

		writer->random = writer->random * 1664525 + 1013904223;
		page = (writer->random >> 8) % (SIZE / STRIDE) * STRIDE;
		fill_with_pattern(writer->scratch_va, PAGE);
		wrong = edu_fetch(writer->edu, writer->scratch, PAGE);
		if (!wrong)
			wrong = edu_store(writer->edu, AT + page, PAGE);
		if (wrong) {
			snprintf(writer->wrong, sizeof(writer->wrong), "%s", wrong);
			break;
		}
		__atomic_add_fetch(&writer->writes, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static problem writer_start(FIXTURE_DATA(dirty_dma) *self, int index)
{
	struct writer *writer = &self->writers[index];

	writer->edu = &self->vmm.devices[index].edu;
	writer->scratch = SCRATCH + index * PAGE;
	writer->scratch_va = self->scratch.va + index * PAGE;
	writer->random += 11 + index;
	writer->enough = false;
	if (pthread_create(&writer->thread, NULL, write_on, writer))
		return problem_is("no thread for a device");
	writer->runs = true;
	return NULL;
}

static problem writer_stop(struct writer *writer)
{
	if (!writer->runs)
		return NULL;
	__atomic_store_n(&writer->enough, true, __ATOMIC_RELAXED);
	pthread_join(writer->thread, NULL);
	writer->runs = false;
	return writer->wrong[0] ? problem_is("%s", writer->wrong) : NULL;
}

static uint64_t writes_of(const struct writer *writer)
{
	return __atomic_load_n(&writer->writes, __ATOMIC_RELAXED);
}

/* Copy what the bitmap names. */
static problem follow(FIXTURE_DATA(dirty_dma) *self)
{
	int ret;

	memset(self->bitmap, 0, DIRTY_BYTES(SIZE));
	ret = dirty_get(self->vmm.container, AT, SIZE, self->bitmap);
	if (ret)
		return problem_is("no bitmap: %s", strerror(-ret));
	for (uint64_t page = 0; page < PAGES; page++) {
		if (!(self->bitmap[page / 64] >> page % 64 & 1))
			continue;
		memcpy(self->copy + page * PAGE, self->memory.va + page * PAGE, PAGE);
		self->told++;
	}
	return NULL;
}

static problem start(FIXTURE_DATA(dirty_dma) *self)
{
	int ret = dirty_start(self->vmm.container);

	if (ret)
		return problem_is("tracking does not start: %s", strerror(-ret));
	/* All that was written until now. */
	memcpy(self->copy, self->memory.va, SIZE);
	return NULL;
}

static problem stop(FIXTURE_DATA(dirty_dma) *self)
{
	int ret = dirty_stop(self->vmm.container);

	return ret ? problem_is("tracking does not stop: %s", strerror(-ret)) : NULL;
}

/* Something besides, in the round of this number. */
static problem something(FIXTURE_DATA(dirty_dma) *self, enum what what, int round)
{
	int container = self->vmm.container;
	/* Between two pages that are written. */
	uint64_t at = round * 7 % (SIZE / STRIDE) * STRIDE + PAGE;
	struct vfio_pgsize_state change = {
		.iova = AT + at,
		.size = STRIDE - PAGE,
		.state = round % 2 ? SHARED : PRIVATE,
	};
	uint32_t one = 1;
	problem wrong = NULL;
	int ret = 0;

	switch (what) {
	case NOTHING:
		break;
	case SIZES:
		ret = policy_of_all(container, TRACKING | APPLY, round % 2 ? ONLY_4K : UPTO_2M);
		break;
	case STATES:
		if (round % 2)
			change.iova = AT + (round - 1) * 7 % (SIZE / STRIDE) * STRIDE + PAGE;
		ret = set_state(container, &change, &one);
		break;
	case PARTS:
		wrong = dma_unmap_exactly(container, AT + at, STRIDE - PAGE);
		if (!wrong)
			ret = dma_map(container, AT + at, self->memory.va + at, STRIDE - PAGE,
				      READ_WRITE);
		break;
	case GROUPS:
		if (round % 2) {
			wrong = vmm_attach(&self->vmm, 1);
			if (!wrong)
				wrong = writer_start(self, 1);
		} else {
			wrong = writer_stop(&self->writers[1]);
			vmm_detach(&self->vmm, 1);
		}
		break;
	case RESTARTS:
		wrong = stop(self);
		if (!wrong)
			wrong = start(self);
		break;
	}
	return wrong ? wrong : ret ? problem_is("round %d: %s", round, strerror(-ret)) : NULL;
}

static bool goes_on(FIXTURE_DATA(dirty_dma) *self)
{
	for (int i = 0; i < DEVICES; i++) {
		if (self->writers[i].wrong[0])
			return false;
		if (writes_of(&self->writers[i]) < WRITES)
			return true;
	}
	return false;
}

TEST_F_TIMEOUT(dirty_dma, no_write_is_lost, 2 * TIMEOUT)
{
	uint64_t writes = 0;
	int round;

	for (int i = 0; i < DEVICES; i++)
		ASSERT_SOUND(writer_start(self, i));
	/* In the middle of it. */
	while (writes_of(&self->writers[0]) < 3)
		usleep(1000);
	ASSERT_SOUND(start(self));
	for (round = 0; round < ROUNDS || goes_on(self); round++) {
		EXPECT_SOUND(something(self, variant->what, round));
		EXPECT_SOUND(follow(self));
		if (_metadata->exit_code)
			break;
	}
	for (int i = 0; i < DEVICES; i++) {
		EXPECT_SOUND(writer_stop(&self->writers[i]));
		writes += writes_of(&self->writers[i]);
	}
	EXPECT_SOUND(follow(self));
	for (uint64_t page = 0; page < PAGES; page++) {
		if (memcmp(self->copy + page * PAGE, self->memory.va + page * PAGE, PAGE)) {
			TH_LOG("page %lu: what was written last is in no bitmap", page);
			_metadata->exit_code = KSFT_FAIL;
		}
	}
	TH_LOG("%lu writes, %lu pages told, %d rounds", writes, self->told, round);
	EXPECT_GT(self->told, 0);
	/* Only a leaf that is split or merged is told though nobody wrote. */
	if (variant->what != SIZES)
		EXPECT_LE(self->told, writes);
	ASSERT_SOUND(stop(self));
	kernel_log_read(&self->vmm.log);
	EXPECT_EQ(0, self->vmm.log.faults);
}

TEST_PROGRAM("No write of a device is lost between two bitmaps of dirty pages.")
