// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that meet: memory goes while a device that is software pins it, or copies it,
 * and IOMMUs come and go meanwhile. As type1, where that has the same.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "backends.h"
#include "emulated.h"
#include "harness.h"
#include "held.h"
#include "module.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

#define AT	GIB(1)
#define SIZE	MIB(1)
#define PAGES	((long)(SIZE / PAGE))
#define RW	(EMULATED_READ | EMULATED_WRITE)

/* Milliseconds for which memory does not come; and microseconds after which a call waits for it. */
#define HELD	700
#define WAITS	200000

FIXTURE(race) {
	struct alone alone;
	struct emulated *device;
	struct vmm vmm;		/* the same container, with devices that come later */
	struct memory memory;
	int stop;
	int done;		/* pins that were made */
	int answer;		/* of the last call of a thread */
};

BACKENDS(race);

FIXTURE_SETUP(race)
{
	SKIP_TYPE1_UNDER_LOCKDEP();
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, SIZE));
	ASSERT_SOUND(alone_open(&self->alone, variant->type, 2));
	self->device = &self->alone.devices[0];
	self->vmm.container = self->alone.container;
	for (int i = 0; i < MAX_DEVICES; i++)
		self->vmm.devices[i].group = -1;
	ASSERT_EQ(0, dma_map(self->vmm.container, AT, self->memory.va, SIZE, READ_WRITE));
	/* Who waits for ever is found. */
	alarm(PATIENCE);
}

FIXTURE_TEARDOWN(race)
{
	alarm(0);
	for (int i = 0; i < MAX_DEVICES; i++)
		vmm_detach(&self->vmm, i);
	EXPECT_SOUND(alone_close(&self->alone));
	memory_free(&self->memory);
}

#define MAP(iova, va, size, flags)	dma_map(self->vmm.container, iova, va, size, flags)

#define UNMAP(iova, size) ({							\
	uint64_t __bytes = size;						\
	int __ret = dma_unmap(self->vmm.container, iova, &__bytes, 0);		\
										\
	__ret ? __ret : (long)__bytes;						\
})

#define ROSE(locked, pinned)	EXPECT_SOUND(account_rose(&self->alone.before, locked, pinned))

static void *hold(void *arg)
{
	FIXTURE_DATA(race) *self = arg;

	emulated_hold(&self->alone.devices[1], HELD);
	return NULL;
}

static void *pin_once(void *arg)
{
	FIXTURE_DATA(race) *self = arg;

	self->answer = emulated_pin(self->device, AT, 8, RW, NULL);
	return NULL;
}

/* The pin comes first, and the device is told of it; it is so with a lock of the driver's, too. */
TEST_F_TIMEOUT(race, unmap_during_pin, TIMEOUT)
{
	pthread_t holder, pinner;

	/* With type1 a driver that holds a lock of its own meanwhile may wait for ever. */
	for (int strict = 0; strict <= (variant->parameters ? EMULATED_STRICT : 0); strict++) {
		ASSERT_EQ(0, emulated_set(self->device, strict));
		ASSERT_EQ(0, pthread_create(&holder, NULL, hold, self));
		usleep(WAITS);
		ASSERT_EQ(0, pthread_create(&pinner, NULL, pin_once, self));
		usleep(WAITS);
		EXPECT_EQ(SIZE, UNMAP(AT, SIZE));
		pthread_join(pinner, NULL);
		pthread_join(holder, NULL);
		EXPECT_EQ(0, self->answer);
		EXPECT_SOUND(emulated_was_told(self->device, 1, AT, SIZE, 0));
		ROSE(0, 0);
		ASSERT_EQ(0, MAP(AT, self->memory.va, SIZE, READ_WRITE));
	}
}

static void *read_page(void *arg)
{
	FIXTURE_DATA(race) *self = arg;
	char bytes[8];

	self->answer = emulated_rw(self->device, GIB(2), bytes, sizeof(bytes), EMULATED_THREAD);
	if (!self->answer && strcmp(bytes, "come"))
		self->answer = -EIO;
	return NULL;
}

static void *unmap_page(void *arg)
{
	FIXTURE_DATA(race) *self = arg;
	uint64_t size = PAGE;

	if (!dma_unmap(self->vmm.container, GIB(2), &size, 0))
		__atomic_store_n(&self->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* What is read is there until it is read. */
TEST_F_TIMEOUT(race, unmap_during_read, TIMEOUT)
{
	pthread_t reader, unmapper;
	struct held held;

	ASSERT_SOUND(held_open(&held));
	ASSERT_EQ(0, MAP(GIB(2), held.page, PAGE, READ_WRITE));
	ASSERT_EQ(0, pthread_create(&reader, NULL, read_page, self));
	ASSERT_SOUND(held_is_wanted(&held));
	ASSERT_EQ(0, pthread_create(&unmapper, NULL, unmap_page, self));
	usleep(WAITS);
	EXPECT_EQ(0, __atomic_load_n(&self->done, __ATOMIC_ACQUIRE));
	if (variant->parameters) {
		/* Nobody else waits. */
		EXPECT_EQ(0, emulated_pin(self->device, AT, 1, RW, NULL));
		EXPECT_EQ(SIZE, UNMAP(AT, SIZE));
		EXPECT_SOUND(emulated_was_told(self->device, 1, AT, SIZE, 0));
	}
	ASSERT_SOUND(held_comes(&held, "come", 5));
	pthread_join(reader, NULL);
	pthread_join(unmapper, NULL);
	EXPECT_EQ(0, self->answer);
	EXPECT_EQ(1, self->done);
	held_close(&held);
	ROSE(0, 0);
}

static void *pin_two(void *arg)
{
	FIXTURE_DATA(race) *self = arg;

	while (!__atomic_load_n(&self->stop, __ATOMIC_ACQUIRE))
		usleep(1000);
	self->answer = emulated_pin(&self->alone.devices[1], AT + 5 * PAGE, 2, RW, NULL);
	return NULL;
}

/*
 * A page that is pinned already is unpinned while another pin of it waits for mmap_lock. That
 * pin fails, since the next page has no memory: it has had the last reference.
 */
TEST_F_TIMEOUT(race, unpin_during_pin_that_fails, TIMEOUT)
{
	pthread_t holder, pinner;

	if (!variant->parameters)
		SKIP(return, "type1 unpins nothing while it pins");
	ASSERT_EQ(0, munmap(self->memory.va + 6 * PAGE, PAGE));
	ASSERT_EQ(0, emulated_pin(self->device, AT + 5 * PAGE, 1, RW, NULL));
	ROSE(1, 1);
	ASSERT_EQ(0, pthread_create(&pinner, NULL, pin_two, self));
	ASSERT_EQ(0, pthread_create(&holder, NULL, hold, self));
	usleep(WAITS);
	__atomic_store_n(&self->stop, 1, __ATOMIC_RELEASE);
	usleep(WAITS);
	EXPECT_EQ(0, emulated_unpin(self->device, AT + 5 * PAGE, 1));
	pthread_join(pinner, NULL);
	pthread_join(holder, NULL);
	EXPECT_EQ(-EFAULT, self->answer);
	ROSE(0, 0);
}

/* --- without end ------------------------------------------------------------------------- */

static void *pin_and_unpin(void *arg)
{
	FIXTURE_DATA(race) *self = arg;

	for (int i = 0; !__atomic_load_n(&self->stop, __ATOMIC_RELAXED); i++) {
		uint64_t at = AT + i * 7 % (PAGES - 8) * PAGE;
		char bytes[100];
		int ret = emulated_pin(self->device, at, 8, RW, NULL);

		if (ret && ret != -EINVAL)
			self->answer = ret;
		if (!ret)
			__atomic_add_fetch(&self->done, 1, __ATOMIC_RELAXED);
		/* It may have been told to unpin it meanwhile. */
		if (i % 2)
			emulated_rw(self->device, at, bytes, sizeof(bytes), EMULATED_WRITE);
		else
			for (int page = 0; page < 8; page++)
				emulated_touch(self->device, at + page * PAGE, bytes, 8, 0);
	}
	return NULL;
}

/* Mappings come and go while a device pins in them, and so do IOMMUs. */
static void all_at_once(struct __test_metadata *_metadata, FIXTURE_DATA(race) *self, int rounds,
			unsigned long flags)
{
	int unmapped = 0, attached = 0;
	pthread_t pinner;

	ASSERT_EQ(0, emulated_set(self->device, flags));
	ASSERT_EQ(0, pthread_create(&pinner, NULL, pin_and_unpin, self));
	for (int i = 0; i < rounds || self->done < rounds; i++) {
		ASSERT_EQ(SIZE, UNMAP(AT, SIZE));
		unmapped++;
		ASSERT_EQ(0, MAP(AT, self->memory.va, SIZE, READ_WRITE));
		if (i % 4 == 1) {
			ASSERT_SOUND(vmm_attach(&self->vmm, 0));
			attached++;
		}
		if (i % 4 == 3)
			vmm_detach(&self->vmm, 0);
	}
	self->stop = 1;
	pthread_join(pinner, NULL);
	EXPECT_EQ(0, self->answer);
	EXPECT_LE(rounds, unmapped);
	EXPECT_LE(rounds / 4, attached);
	vmm_detach(&self->vmm, 0);
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE));
	ROSE(0, 0);
}

#define SKIP_TYPE1()	do {							\
	if (!variant->parameters)						\
		SKIP(return, "type1 panics if pages are pinned ten times during an unmap");	\
} while (0)

TEST_F_TIMEOUT(race, all_at_once, TIMEOUT)
{
	SKIP_TYPE1();
	all_at_once(_metadata, self, 40, 0);
}

TEST_F_TIMEOUT(race, all_at_once_with_a_lock, TIMEOUT)
{
	SKIP_TYPE1();
	all_at_once(_metadata, self, 40, EMULATED_STRICT);
}

TEST_PROGRAM("Memory goes while a device that is software uses it.")
