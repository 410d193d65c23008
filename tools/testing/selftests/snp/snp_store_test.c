// SPDX-License-Identifier: GPL-2.0
/*
 * Stores by the CPU: to an assigned page they fault, from the kernel and from the process that
 * owned the memory, and also through a large mapping of a 2M in which any page is assigned.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "backing.h"
#include "guest.h"
#include "harness.h"
#include "rmp.h"
#include "units.h"
#include "wait.h"

#define HUGE	MIB(2)
#define PAGE_A	(HUGE + 5 * PAGE)
#define PAGE_B	(HUGE + 300 * PAGE)

FIXTURE(store) {
	struct memory memory;
	struct guest guest;
};

FIXTURE_VARIANT(store) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(store, huge) { .backing = HUGETLB_2M };
FIXTURE_VARIANT_ADD(store, small) { .backing = ANON_4K };

FIXTURE_SETUP(store)
{
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, MIB(6)));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, MIB(6)));
}

FIXTURE_TEARDOWN(store)
{
	guest_stop(&self->guest);
	memory_free(&self->memory);
	huge_pages_release();
}

static uint64_t store_faults(void)
{
	struct rmp_counts counts;

	return rmp_counts(&counts) ? 0 : counts.store_faults;
}

TEST_F(store, by_the_kernel)
{
	uint8_t *byte = self->memory.va + PAGE_A;
	uint64_t before = store_faults();

	EXPECT_EQ(0, guest_kernel_store(&self->guest, PAGE_A));
	EXPECT_EQ(1, *byte);
	EXPECT_EQ(before, store_faults());

	ASSERT_SOUND(guest_assign(&self->guest, PAGE_A, false));
	EXPECT_EQ(-EFAULT, guest_kernel_store(&self->guest, PAGE_A));
	EXPECT_EQ(1, *byte);
	EXPECT_LT(before, store_faults());
	/* The kernel has split its own mapping for this. */
	EXPECT_EQ(0, guest_kernel_store(&self->guest, PAGE_B));
	EXPECT_EQ(0, guest_kernel_store(&self->guest, PAGE_A + PAGE));

	ASSERT_SOUND(guest_share(&self->guest, PAGE_A, false));
	EXPECT_EQ(0, guest_kernel_store(&self->guest, PAGE_A));
	EXPECT_EQ(2, *byte);
}

TEST_F(store, by_the_kernel_to_2m)
{
	if (variant->backing != HUGETLB_2M)
		return;
	ASSERT_SOUND(guest_assign(&self->guest, HUGE, true));
	EXPECT_EQ(-EFAULT, guest_kernel_store(&self->guest, HUGE));
	EXPECT_EQ(-EFAULT, guest_kernel_store(&self->guest, PAGE_B));
	EXPECT_EQ(0, guest_kernel_store(&self->guest, HUGE - PAGE));
	EXPECT_EQ(0, guest_kernel_store(&self->guest, HUGE + MIB(2)));
	ASSERT_SOUND(guest_smash(&self->guest, HUGE));
	EXPECT_EQ(-EFAULT, guest_kernel_store(&self->guest, PAGE_B));
	ASSERT_SOUND(guest_share(&self->guest, PAGE_B, false));
	EXPECT_EQ(0, guest_kernel_store(&self->guest, PAGE_B));
	EXPECT_EQ(-EFAULT, guest_kernel_store(&self->guest, PAGE_A));
}

struct writer {
	pthread_t thread;
	volatile uint8_t *byte;
	atomic_int done;
};

static void *write_byte(void *arg)
{
	struct writer *writer = arg;

	*writer->byte = 0x77;
	writer->done = 1;
	return NULL;
}

static bool faults_soon(uint64_t than)
{
	struct wait wait = {};

	while (store_faults() <= than && wait_more(&wait, MOMENT))
		;
	return store_faults() > than;
}

static bool is_done_soon(struct writer *writer)
{
	struct wait wait = {};

	while (!writer->done && wait_more(&wait, MOMENT))
		;
	return writer->done;
}

/* Linux considers such a fault resolved: the process retries until it is. */
static void store_waits(struct __test_metadata *_metadata, FIXTURE_DATA(store) *self, uint64_t at)
{
	struct writer writer = { .byte = self->memory.va + at };
	uint64_t before = store_faults();

	ASSERT_EQ(0, pthread_create(&writer.thread, NULL, write_byte, &writer));
	EXPECT_TRUE(faults_soon(before));
	usleep(200000);
	EXPECT_EQ(0, writer.done);
	EXPECT_NE(0x77, *writer.byte);
	ASSERT_SOUND(guest_share(&self->guest, PAGE_A, false));
	EXPECT_TRUE(is_done_soon(&writer));
	EXPECT_EQ(0, pthread_join(writer.thread, NULL));
	EXPECT_EQ(0x77, *writer.byte);
}

TEST_F_TIMEOUT(store, by_the_process, TIMEOUT)
{
	ASSERT_SOUND(guest_assign(&self->guest, PAGE_A, false));
	store_waits(_metadata, self, PAGE_A);
}

/* Beside the assigned page: depends on the process's own mapping. */
TEST_F_TIMEOUT(store, by_the_process_beside, TIMEOUT)
{
	struct writer writer = { .byte = self->memory.va + PAGE_B };

	ASSERT_SOUND(guest_assign(&self->guest, PAGE_A, false));
	if (variant->backing == HUGETLB_2M) {
		store_waits(_metadata, self, PAGE_B);
		return;
	}
	write_byte(&writer);
	EXPECT_EQ(0x77, *writer.byte);
}

TEST_PROGRAM("Stores by kernel and process to pages that are a guest's.")
