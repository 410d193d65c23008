// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that become shared a few at a time are pinned before the container is locked.
 * Whatever happens to container and mapping meanwhile, the call ends as if that had come
 * earlier or later, and each page that is mapped is pinned once.
 * The test build's gates hold the call (rust/sys/testing.h).
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gates.h"
#include "harness.h"
#include "module.h"
#include "pages.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

#define AT	GIB(4)
#define NOWHERE	GIB(64)
#define SIZE	MIB(4)
/* Changes of the call that is held, of some pages each, with as many between them. */
#define NR	16
#define PIECE	KIB(32)
#define BEHIND	((uint64_t)2 * NR * PIECE)

FIXTURE(state_pins) {
	struct vmm vmm;
	struct vmm other;		/* by which the call is let go */
	struct memory memory;
	struct memory elsewhere;
	struct pages pages;
	struct change changes[NR];
	struct vfio_pgsize_state states[NR];
	pthread_t thread;
	uint32_t done;
	int ret;
	bool returned;
};

FIXTURE_VARIANT(state_pins) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(state_pins, memfd) { .backing = MEMFD };
FIXTURE_VARIANT_ADD(state_pins, hugetlb) { .backing = HUGETLB_2M };

typedef FIXTURE_DATA(state_pins) Pins;

/* A stateful mapping of which each page is quickly shared. */
FIXTURE_SETUP(state_pins)
{
	ASSERT_SOUND(module_require("own_domains=1"));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, SIZE));
	ASSERT_SOUND(memory_alloc(&self->elsewhere, ANON_4K, MIB(1)));
	ASSERT_SOUND(vmm_open_with(&self->other, VFIO_PGSIZE_IOMMU, 1, 1));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, PRIVATE));
	for (uint64_t at = SIZE - PAGE; at < SIZE; at -= MIB(2)) {
		ASSERT_SOUND(pages_set(&self->pages, at, PAGE, SHARED));
		ASSERT_SOUND(pages_set(&self->pages, at, PAGE, PRIVATE));
	}
	for (int i = 0; i < NR; i++)
		self->changes[i] = (struct change){ 2 * i * PIECE, PIECE, SHARED };
	pages_changes(&self->pages, self->changes, NR, self->states);
}

FIXTURE_TEARDOWN(state_pins)
{
	EXPECT_SOUND(gates_set(&(struct gates){}));
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(vmm_close(&self->other));
	pages_free(&self->pages);
	memory_free(&self->memory);
	memory_free(&self->elsewhere);
	huge_pages_release();
	EXPECT_SOUND(module_require(""));
}

static void *share(void *arg)
{
	Pins *self = arg;

	self->done = NR;
	self->ret = set_state(self->vmm.container, self->states, &self->done);
	__atomic_store_n(&self->returned, true, __ATOMIC_RELEASE);
	return NULL;
}

static problem gate(int waiter, int awaited)
{
	struct gates gates = {};

	gates_add(&gates, waiter, awaited);
	return gates_set(&gates);
}

/* The call begins, and is held where it is about to pin. */
static problem hold(Pins *self)
{
	problem wrong = gate(PGSIZE_STEP_STATE_PINS, PGSIZE_STEP_UNMAP_BEGINS);

	if (!wrong && pthread_create(&self->thread, NULL, share, self))
		wrong = problem_is("no thread");
	return wrong ? wrong : gates_wait(PGSIZE_STEP_STATE_PINS);
}

#define HOLD()	ASSERT_SOUND(hold(self))

/* Whoever waits for something to be unmapped goes on; the call was held until then. */
static problem let_go(Pins *self)
{
	uint64_t size = PAGE;
	int ret;

	if (__atomic_load_n(&self->returned, __ATOMIC_ACQUIRE))
		return problem_is("the call was not held");
	/* Of nothing, in a container that nobody else has to do with. */
	ret = dma_unmap(self->other.container, NOWHERE, &size, 0);
	return ret || size ? problem_is("unmapping nothing: %s", strerror(-ret)) : NULL;
}

/* It has ended, and has waited as it was to. */
static problem ended(Pins *self)
{
	pthread_join(self->thread, NULL);
	return gates_worked();
}

#define LET_GO() do {				\
	ASSERT_SOUND(let_go(self));		\
	ASSERT_SOUND(ended(self));		\
} while (0)

/* All was done, as the model says. */
static problem was_done(Pins *self)
{
	problem wrong = pages_note(&self->pages, self->changes, NR);

	if (wrong)
		return wrong;
	if (self->ret || self->done != NR)
		return problem_is("%s, %u done", strerror(-self->ret), self->done);
	return pages_agree(&self->pages);
}

TEST_F_TIMEOUT(state_pins, others_go_on, TIMEOUT)
{
	struct info info;

	HOLD();
	EXPECT_SOUND(container_info(self->vmm.container, &info));
	/* Other pages of the table, and of another one. */
	EXPECT_SOUND(pages_set(&self->pages, BEHIND, 3 * PAGE, SHARED));
	EXPECT_SOUND(pages_set(&self->pages, MIB(2), PAGE, SHARED));
	EXPECT_SOUND(pages_set(&self->pages, BEHIND + PAGE, PAGE, PRIVATE));
	ASSERT_EQ(0, dma_map(self->vmm.container, GIB(8), self->elsewhere.va, MIB(1), READ_WRITE));
	LET_GO();
	EXPECT_EQ(0, self->ret);
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, GIB(8), MIB(1)));
	EXPECT_SOUND(was_done(self));
}

/* Asks the container something once it may, without memory of its own. */
struct asker {
	pthread_t thread;
	int container;
	bool may;
	bool answered;
};

static void *ask(void *arg)
{
	struct asker *asker = arg;
	struct vfio_pgsize_stats stats;

	while (!__atomic_load_n(&asker->may, __ATOMIC_ACQUIRE))
		usleep(1000);
	if (!get_stats(asker->container, &stats))
		__atomic_store_n(&asker->answered, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool answers(struct asker *asker)
{
	struct wait wait = {};

	/* If it waits for the gate, that is given up first, which ended() reports. */
	__atomic_store_n(&asker->may, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&asker->answered, __ATOMIC_ACQUIRE))
		if (!wait_more(&wait, MOMENT / 10))
			return false;
	return true;
}

static void *map_in_other(void *arg)
{
	Pins *self = arg;

	return (void *)(intptr_t)dma_map(self->other.container, AT, self->elsewhere.va, MIB(1),
					 READ_WRITE);
}

/*
 * The pages are not in the process's page table, so that GUP takes mmap_lock, which another
 * thread holds: who asks the container has nothing to do with that.
 */
TEST_F_TIMEOUT(state_pins, mmap_lock_is_held, TIMEOUT)
{
	struct asker asker = { .container = self->vmm.container };
	pthread_t mapper;
	void *mapped;

	if (variant->backing != MEMFD)
		SKIP(return, "the memory would not be there any more");
	ASSERT_EQ(0, dma_map(self->other.container, GIB(16), self->elsewhere.va, PAGE, READ_WRITE));
	ASSERT_EQ(0, pthread_create(&asker.thread, NULL, ask, &asker));
	ASSERT_EQ(0, madvise(self->memory.va, SIZE, MADV_DONTNEED));
	HOLD();
	/* From now on who charges waits, with mmap_lock, until something is unmapped indeed. */
	ASSERT_SOUND(gate(PGSIZE_STEP_CHARGES, PGSIZE_STEP_UNMAP_REMOVED));
	ASSERT_EQ(0, pthread_create(&mapper, NULL, map_in_other, self));
	ASSERT_SOUND(gates_wait(PGSIZE_STEP_CHARGES));
	ASSERT_SOUND(let_go(self));
	/* It is on its way to mmap_lock. */
	usleep(200000);
	EXPECT_TRUE(answers(&asker));
	EXPECT_FALSE(__atomic_load_n(&self->returned, __ATOMIC_ACQUIRE));
	ASSERT_SOUND(dma_unmap_exactly(self->other.container, GIB(16), PAGE));
	ASSERT_SOUND(ended(self));
	pthread_join(mapper, &mapped);
	EXPECT_EQ(NULL, mapped);
	pthread_join(asker.thread, NULL);
	EXPECT_SOUND(dma_unmap_exactly(self->other.container, AT, MIB(1)));
	EXPECT_SOUND(was_done(self));
}

/* The rest of the changes finds its part of the mapping gone. */
TEST_F_TIMEOUT(state_pins, part_is_unmapped, TIMEOUT)
{
	HOLD();
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT + BEHIND / 2, BEHIND));
	ASSERT_SOUND(ended(self));
	EXPECT_EQ(-ENOENT, self->ret);
	EXPECT_EQ(NR / 2, self->done);
	EXPECT_SOUND(account_rose(&self->pages.before, BEHIND / 4 / PAGE, BEHIND / 4 / PAGE));
}

TEST_F_TIMEOUT(state_pins, all_is_unmapped, TIMEOUT)
{
	HOLD();
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	ASSERT_SOUND(ended(self));
	EXPECT_EQ(-ENOENT, self->ret);
	EXPECT_EQ(0, self->done);
	EXPECT_SOUND(account_rose(&self->pages.before, 0, 0));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

/* What is mapped at the same addresses by then is another mapping. */
TEST_F_TIMEOUT(state_pins, mapped_anew, TIMEOUT)
{
	struct gates gates = {};

	/* The call that is held waits for what is inserted. */
	gates_add(&gates, PGSIZE_STEP_STATE_PINS, PGSIZE_STEP_MAP_INSERTED);
	ASSERT_SOUND(gates_set(&gates));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, share, self));
	ASSERT_SOUND(gates_wait(PGSIZE_STEP_STATE_PINS));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	ASSERT_EQ(0, dma_map(self->vmm.container, AT, self->memory.va + MIB(2), MIB(2),
			     READ_WRITE | STATEFUL));
	/* It is all private, and so was not waited for. */
	ASSERT_EQ(0, dma_map(self->vmm.container, GIB(8), self->elsewhere.va, PAGE, READ_WRITE));
	ASSERT_SOUND(ended(self));
	EXPECT_EQ(-ENOENT, self->ret);
	EXPECT_EQ(0, self->done);
	EXPECT_SOUND(account_rose(&self->pages.before, 1, 1));
}

TEST_F_TIMEOUT(state_pins, last_group_leaves, TIMEOUT)
{
	HOLD();
	vmm_detach(&self->vmm, 0);
	ASSERT_SOUND(ended(self));
	EXPECT_TRUE(self->ret == -EINVAL || self->ret == -ENOENT);
	EXPECT_SOUND(account_rose(&self->pages.before, 0, 0));
}

/* The same pages by another call: each is mapped, pinned and charged once. */
TEST_F_TIMEOUT(state_pins, shared_by_another, TIMEOUT)
{
	HOLD();
	EXPECT_SOUND(pages_set(&self->pages, 3 * PAGE, BEHIND, SHARED));
	LET_GO();
	EXPECT_SOUND(was_done(self));
}

TEST_F_TIMEOUT(state_pins, private_again, TIMEOUT)
{
	HOLD();
	EXPECT_SOUND(pages_set(&self->pages, 0, MIB(2), SHARED));
	EXPECT_SOUND(pages_set(&self->pages, 0, MIB(2), PRIVATE));
	LET_GO();
	EXPECT_SOUND(was_done(self));
}

/* Leaves are those of the policy when they are made. */
TEST_F_TIMEOUT(state_pins, another_policy, TIMEOUT)
{
	HOLD();
	self->pages.sizes = PAGE | PIECE;
	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, self->pages.sizes));
	LET_GO();
	EXPECT_SOUND(was_done(self));
}

TEST_F_TIMEOUT(state_pins, second_domain, TIMEOUT)
{
	HOLD();
	ASSERT_SOUND(vmm_attach(&self->vmm, 2));
	EXPECT_EQ(2, vmm_domains(&self->vmm));
	LET_GO();
	EXPECT_SOUND(was_done(self));
}

/* The mapping's memory gets another address, and is other memory. */
static problem move(Pins *self, uint64_t iova, uint64_t size, uint8_t *va)
{
	uint64_t bytes = size;
	int ret = dma_unmap(self->vmm.container, iova, &bytes, VFIO_DMA_UNMAP_FLAG_VADDR);

	if (!ret)
		ret = dma_map(self->vmm.container, iova, va, size, VFIO_DMA_MAP_FLAG_VADDR);
	return ret ? problem_is("the memory does not move: %s", strerror(-ret)) : NULL;
}

/* What was pinned before is not what is mapped. */
TEST_F_TIMEOUT(state_pins, memory_moves, TIMEOUT)
{
	struct memory moved;

	ASSERT_SOUND(memory_alloc(&moved, variant->backing, SIZE));
	HOLD();
	ASSERT_SOUND(move(self, AT, SIZE, moved.va));
	LET_GO();
	self->pages.va = moved.va;
	EXPECT_SOUND(was_done(self));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	memory_free(&moved);
}

TEST_PROGRAM("Holds a call that pins pages of quick changes, and makes others meanwhile.")
