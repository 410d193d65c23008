// SPDX-License-Identifier: GPL-2.0
/*
 * Dirty tracking and devices that are software: what they have pinned is dirty as long as
 * it is pinned, and what they write is dirty once. As type1, but beside a device with an
 * IOMMU: for type1 all that is mapped is dirty then.
 */
#include "dirty.h"
#include "mixed.h"

#define DIRTY_ARE(runs)	EXPECT_SOUND(dirty_is(self->vmm.container, AT, SIZE, runs))

/* All that is mapped, which only type1 says, or just these. */
#define JUST(...)	(variant->parameters ? DIRTY(__VA_ARGS__) : DIRTY({ 0, PAGES }))

static int rw(FIXTURE_DATA(mixed) *self, uint64_t page, uint32_t flags)
{
	char bytes[2 * PAGE] = "from the device";

	return emulated_rw(self->device, AT + page * PAGE + PAGE / 2, bytes, PAGE, flags);
}

TEST_F_TIMEOUT(mixed, alone, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_EQ(0, emulated_pin(self->device, AT + 7 * PAGE, 1, EMULATED_READ, NULL));
	EXPECT_EQ(0, rw(self, 20, EMULATED_WRITE));
	ASSERT_EQ(0, dirty_start(container));
	/* What is pinned already, and nothing that was written before. */
	DIRTY_ARE(DIRTY({ 7, 1 }));
	DIRTY_ARE(DIRTY({ 7, 1 }));
	/* From one mapping to the next. */
	ASSERT_EQ(0, emulated_pin(self->device, AT + SIZE / 2 - PAGE, 3, RW, NULL));
	DIRTY_ARE(DIRTY({ 7, 1 }, { PAGES / 2 - 1, 3 }));
	EXPECT_EQ(0, rw(self, 40, EMULATED_WRITE));
	EXPECT_EQ(0, rw(self, 50, 0));
	EXPECT_EQ(0, rw(self, PAGES - 2, EMULATED_WRITE));
	DIRTY_ARE(DIRTY({ 7, 1 }, { 40, 2 }, { PAGES / 2 - 1, 3 }, { PAGES - 2, 2 }));
	DIRTY_ARE(DIRTY({ 7, 1 }, { PAGES / 2 - 1, 3 }));
	/* What was pinned until now is dirty once more. */
	EXPECT_EQ(0, emulated_unpin(self->device, AT + 7 * PAGE, 1));
	EXPECT_EQ(0, emulated_unpin(self->device, AT + SIZE / 2, 1));
	DIRTY_ARE(DIRTY({ 7, 1 }, { PAGES / 2 - 1, 3 }));
	DIRTY_ARE(DIRTY({ PAGES / 2 - 1, 1 }, { PAGES / 2 + 1, 1 }));
	/* Nothing is kept until tracking begins anew. */
	EXPECT_EQ(0, rw(self, 60, EMULATED_WRITE));
	EXPECT_EQ(0, dirty_stop(container));
	EXPECT_EQ(0, rw(self, 70, EMULATED_WRITE));
	ASSERT_EQ(0, dirty_start(container));
	DIRTY_ARE(DIRTY({ PAGES / 2 - 1, 1 }, { PAGES / 2 + 1, 1 }));
	EXPECT_EQ(0, dirty_stop(container));
}

/* A bitmap that cannot be written is told another time. */
TEST_F_TIMEOUT(mixed, told_again, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_EQ(0, dirty_start(container));
	EXPECT_EQ(0, rw(self, 40, EMULATED_WRITE));
	EXPECT_EQ(-EFAULT, dirty_get(container, AT, SIZE, (void *)(PAGE / 2)));
	DIRTY_ARE(DIRTY({ 40, 2 }));
	DIRTY_ARE(CLEAN);
}

TEST_F_TIMEOUT(mixed, unmapped, TIMEOUT)
{
	uint64_t size = SIZE / 2, bitmap[DIRTY_BYTES(SIZE / 2) / 8] = {};
	int container = self->vmm.container;

	ASSERT_EQ(0, dirty_start(container));
	ASSERT_EQ(0, emulated_pin(self->device, AT + 7 * PAGE, 2, RW, NULL));
	EXPECT_EQ(0, rw(self, 40, EMULATED_WRITE));
	/* The device is told, and what it has written until then is dirty. */
	ASSERT_EQ(0, dirty_unmap(container, AT, &size, bitmap));
	EXPECT_EQ(SIZE / 2, size);
	EXPECT_SOUND(emulated_was_told(self->device, 1, AT, SIZE / 2, 0));
	EXPECT_SOUND(dirty_bits_are(bitmap, SIZE / 2, DIRTY({ 7, 2 }, { 40, 2 })));
	/* What is mapped there next was never written. */
	ASSERT_EQ(0, dma_map(container, AT, self->memory.va, SIZE / 2, READ_WRITE));
	DIRTY_ARE(CLEAN);
	/* Not if it was not asked for, either. */
	ASSERT_EQ(0, emulated_pin(self->device, AT + 9 * PAGE, 1, RW, NULL));
	ASSERT_EQ(0, dma_unmap(container, AT, &size, 0));
	ASSERT_EQ(0, dma_map(container, AT, self->memory.va, SIZE / 2, READ_WRITE));
	DIRTY_ARE(CLEAN);
}

/* A device with an IOMMU comes, writes, and leaves. */
TEST_F_TIMEOUT(mixed, mixed, TIMEOUT)
{
	int container = self->vmm.container;
	struct edu *edu = &self->vmm.devices[0].edu;

	ASSERT_EQ(0, dirty_start(container));
	ASSERT_EQ(0, emulated_pin(self->device, AT + 7 * PAGE, 1, RW, NULL));
	EXPECT_EQ(0, rw(self, 40, EMULATED_WRITE));
	ASSERT_SOUND(vmm_attach(&self->vmm, 0));
	DIRTY_ARE(JUST({ 7, 1 }, { 40, 2 }));
	DIRTY_ARE(JUST({ 7, 1 }));
	EXPECT_SOUND(dirty_store(edu, AT, DIRTY({ 80, 1 }, { PAGES - 1, 1 })));
	EXPECT_EQ(0, rw(self, 81, EMULATED_WRITE));
	DIRTY_ARE(JUST({ 7, 1 }, { 80, 3 }, { PAGES - 1, 1 }));
	DIRTY_ARE(JUST({ 7, 1 }));
	/* It is told what it wrote, after it has left. */
	EXPECT_SOUND(dirty_store(edu, AT, DIRTY({ 90, 2 }, { PAGES - 3, 1 })));
	vmm_detach(&self->vmm, 0);
	DIRTY_ARE(JUST({ 7, 1 }, { 90, 2 }, { PAGES - 3, 1 }));
	DIRTY_ARE(DIRTY({ 7, 1 }));
	EXPECT_EQ(0, dirty_stop(container));
}

TEST_PROGRAM("Dirty tracking with devices that are software.")
