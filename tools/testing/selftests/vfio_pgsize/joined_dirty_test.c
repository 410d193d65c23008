// SPDX-License-Identifier: GPL-2.0
/* Joined mappings while an IOMMU with dirty bits tracks what devices write. */
#include <errno.h>

#include "dirty.h"
#include "joined.h"

/* While dirty pages are tracked leaves are small; bitmaps are those of pieces. */
TEST_F_TIMEOUT(joined, bitmaps, TIMEOUT)
{
	static const struct dirty_run written[] = {
		{ 6, 1 }, { 512, 1 }, { 639, 2 }, { 1029, 1 }, {}
	};
	struct pieces *pieces = &self->pieces;
	struct edu *edu = &self->vmm.devices[0].edu;
	int container = self->vmm.container;
	uint64_t size = 64 * PAGE, bitmap = 0;

	ASSERT_EQ(0, dirty_start(container));
	EXPECT_SOUND(pieces_are_small(pieces));
	ASSERT_SOUND(dirty_store(edu, AT, written));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, written));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, CLEAN));
	/* A range that cuts a piece. */
	EXPECT_EQ(pieces->parts ? 0 : -EINVAL,
		  dirty_get(container, AT + 513 * PAGE, 63 * PAGE, &bitmap));
	/* One piece of many that are contiguous. */
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 575, 3 })));
	ASSERT_EQ(0, dirty_unmap(container, AT + 576 * PAGE, &size, &bitmap));
	EXPECT_EQ(64 * PAGE, size);
	EXPECT_EQ(3, (int)bitmap);
	pieces_forget(pieces, 576, 64);
	/* It is not charged any more, though others of the same joined mapping are. */
	EXPECT_SOUND(pieces_agree_quickly(pieces));
	EXPECT_SOUND(pieces_are_small(pieces));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 575, 1 })));
	/* What is mapped meanwhile is clean, and is not merged yet. */
	for (uint32_t page = 576; page < 640; page++)
		ASSERT_SOUND(pieces_map(pieces, 0, page, 1));
	EXPECT_SOUND(pieces_are_small(pieces));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, CLEAN));
	ASSERT_SOUND(dirty_store(edu, AT, DIRTY({ 600, 1 })));
	EXPECT_SOUND(dirty_is(container, AT, SIZE, DIRTY({ 600, 1 })));
	ASSERT_EQ(0, dirty_stop(container));
	EXPECT_SOUND(pieces_agree(pieces));
}

TEST_PROGRAM("Joined mappings while devices' writes are tracked.")
