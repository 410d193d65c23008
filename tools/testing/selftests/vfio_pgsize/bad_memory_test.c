// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that cannot be mapped: it does not exist, or goes away, or exceeds what the process may
 * lock. What was pinned and mapped until then is undone.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "harness.h"
#include "module.h"
#include "state.h"
#include "units.h"

#define AT	GIB(1)
#define SIZE	MIB(4)

FIXTURE(bad_memory) {
	struct vmm vmm;
	struct memory memory;
	struct state before;
};

FIXTURE_SETUP(bad_memory)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(state_take(&self->vmm, &self->before));
}

FIXTURE_TEARDOWN(bad_memory)
{
	state_free(&self->before);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* Memory that exists only in part: what was pinned and mapped of it is undone. */
TEST_F_TIMEOUT(bad_memory, memory_with_a_hole, TIMEOUT)
{
	static const enum backing backings[] = { ANON_4K, THP, HUGETLB_2M };

	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		struct memory memory = {};
		uint64_t hole = backings[i] == HUGETLB_2M ? MIB(2) : PAGE;
		uint64_t at[] = { 0, MIB(2), MIB(4) - hole };

		ASSERT_SOUND(memory_alloc(&memory, backings[i], MIB(4)));
		for (size_t j = 0; j < ARRAY_SIZE(at); j++) {
			ASSERT_EQ(0, mprotect(memory.va + at[j], hole, PROT_NONE));
			EXPECT_EQ(-EFAULT, dma_map(self->vmm.container, GIB(2), memory.va, MIB(4),
						   READ_WRITE));
			EXPECT_SOUND(state_is(&self->vmm, &self->before));
			ASSERT_EQ(0, mprotect(memory.va + at[j], hole, PROT_READ));
			EXPECT_EQ(-EFAULT, dma_map(self->vmm.container, GIB(2), memory.va, MIB(4),
						   READ_WRITE));
			EXPECT_SOUND(state_is(&self->vmm, &self->before));
			ASSERT_EQ(0, mprotect(memory.va + at[j], hole, PROT_READ | PROT_WRITE));
		}
		ASSERT_EQ(0, munmap(memory.va + MIB(2), MIB(2)));
		EXPECT_EQ(-EFAULT, dma_map(self->vmm.container, GIB(2), memory.va, MIB(4),
					   READ_WRITE));
		EXPECT_SOUND(state_is(&self->vmm, &self->before));
		ASSERT_EQ(0, dma_map(self->vmm.container, GIB(2), memory.va, MIB(2), READ_WRITE));
		EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, GIB(2), MIB(2)));
		EXPECT_SOUND(state_is(&self->vmm, &self->before));
		munmap(memory.va, MIB(2));
	}
}

/* A file that is shorter than its mapping. */
TEST_F_TIMEOUT(bad_memory, truncated_file, TIMEOUT)
{
	int fd = memfd_create("truncated", 0);
	uint8_t *va;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, MIB(1)));
	va = mmap(NULL, MIB(2), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, va);
	memset(va, 1, MIB(1));
	EXPECT_EQ(-EFAULT, dma_map(self->vmm.container, GIB(2), va, MIB(2), READ_WRITE));
	EXPECT_SOUND(state_is(&self->vmm, &self->before));
	munmap(va, MIB(2));
	close(fd);
}

/* --- memory that comes and goes while it is mapped ----------------------- */

struct vanishing {
	uint8_t *va;
	uint64_t size;
	int stop;
};

static void *vanish(void *arg)
{
	struct vanishing *vanishing = arg;

	while (!__atomic_load_n(&vanishing->stop, __ATOMIC_RELAXED)) {
		mprotect(vanishing->va, vanishing->size, PROT_NONE);
		usleep(200);
		mmap(vanishing->va, vanishing->size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		usleep(200);
	}
	return NULL;
}

TEST_F_TIMEOUT(bad_memory, vanishing_memory, TIMEOUT)
{
	struct memory memory = {};
	struct vanishing vanishing = {};
	int good = 0, faulted = 0;
	pthread_t thread;

	ASSERT_SOUND(memory_alloc(&memory, ANON_4K, MIB(4)));
	vanishing.va = memory.va + MIB(1);
	vanishing.size = MIB(2);
	ASSERT_EQ(0, pthread_create(&thread, NULL, vanish, &vanishing));
	for (int i = 0; i < 20000 && (i < 300 || !good || !faulted); i++) {
		int ret = dma_map(self->vmm.container, GIB(2), memory.va, MIB(4), READ_WRITE);

		if (ret) {
			ASSERT_EQ(-EFAULT, ret);
			faulted++;
			continue;
		}
		good++;
		ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, GIB(2), MIB(4)));
	}
	__atomic_store_n(&vanishing.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d maps went well, %d found memory missing", good, faulted);
	EXPECT_LT(0, good);
	EXPECT_LT(0, faulted);
	EXPECT_SOUND(state_is(&self->vmm, &self->before));
	memory_free(&memory);
}

/* --- RLIMIT_MEMLOCK ------------------------------------------------------ */

TEST_F_TIMEOUT(bad_memory, memlock_limit, TIMEOUT)
{
	static const enum backing backings[] = { ANON_4K, THP, HUGETLB_2M, MEMFD, MIXED };
	/* The fixture's mappings count, too. */
	const long limit = (SIZE + MIB(4)) / PAGE;
	int container = self->vmm.container;

	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		struct memory memory = {};

		ASSERT_SOUND(memory_alloc(&memory, backings[i], MIB(8)));
		ASSERT_SOUND(account_limit(limit));
		EXPECT_EQ(-ENOMEM, dma_map(container, GIB(2), memory.va, MIB(8), READ_WRITE));
		EXPECT_SOUND(state_is(&self->vmm, &self->before));
		EXPECT_EQ(-ENOMEM, dma_map(container, GIB(2), memory.va, MIB(4) + PAGE, READ_WRITE));
		EXPECT_SOUND(state_is(&self->vmm, &self->before));
		/* As much as the limit, and not a page more. */
		ASSERT_EQ(0, dma_map(container, GIB(2), memory.va, MIB(4), READ_WRITE));
		EXPECT_EQ(-ENOMEM, dma_map(container, GIB(3), memory.va, PAGE, READ_WRITE));
		EXPECT_SOUND(account_rose(&self->before.account, MIB(4) / PAGE, MIB(4) / PAGE));
		EXPECT_SOUND(dma_unmap_exactly(container, GIB(2), MIB(4)));
		EXPECT_SOUND(state_is(&self->vmm, &self->before));
		memory_free(&memory);
	}
}

TEST_PROGRAM("Maps memory that is missing, vanishing or too much, and checks that nothing is left.")
