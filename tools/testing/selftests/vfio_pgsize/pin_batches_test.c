// SPDX-License-Identifier: GPL-2.0
/*
 * How many pages GUP is asked for at a time: it has interrupts off while it takes present pages,
 * for some hundred instructions each if they are small, and for some if they are huge.
 */
#include "backing.h"
#include "harness.h"
#include "module.h"
#include "probe.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
/* MIXED: a quarter in huge pages, then a quarter in small ones, and so on. */
#define SIZE	MIB(256)
#define HUGE	(SIZE / 4)

/* As in rust/mm/pin.rs. */
#define MOST		4096
#define SMALL		512

FIXTURE(pin_batches) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(pin_batches)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, MIXED, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(probe_begin("pin_user_pages_fast start=start:x64 nr=nr_pages:s32"));
}

FIXTURE_TEARDOWN(pin_batches)
{
	EXPECT_SOUND(probe_end());
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

struct seen {
	uint64_t va;
	uint64_t pages;		/* all together */
	uint64_t large;		/* the maximum if pages are small */
	int larger;		/* how often it was more than SMALL there */
};

static problem look(const uint64_t *values, void *arg)
{
	struct seen *seen = arg;
	uint64_t first = (values[0] - seen->va) / PAGE, nr = values[1];

	if (values[0] < seen->va || first + nr > SIZE / PAGE)
		return problem_is("%lu pages from %#lx on are not ours", nr, values[0]);
	seen->pages += nr;
	if (first + nr <= HUGE / PAGE)
		return NULL;
	if (first < HUGE / PAGE)
		return problem_is("%lu pages at %#lx: huge ones and small ones", nr, values[0]);
	if (nr > seen->large)
		seen->large = nr;
	/* Only the second quarter has no huge page at all. */
	if (first < 2 * HUGE / PAGE)
		seen->larger += nr > SMALL;
	return NULL;
}

TEST_F_TIMEOUT(pin_batches, are_bounded, TIMEOUT)
{
	static const char *const names[] = { "start", "nr" };
	struct seen seen = { .va = (uintptr_t)self->memory.va };
	int count = 0;

	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(probe_each(names, 2, &count, look, &seen));
	/* All pages are present: none is requested twice. */
	EXPECT_EQ(SIZE / PAGE, seen.pages);
	EXPECT_GE(MOST, seen.large);
	EXPECT_GE(1, seen.larger);
	/* And not page by page. */
	EXPECT_GE(1024, count);
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
}

/* --- page states ------------------------------------------------------------- */

#define CHANGES		512

static problem add_up(const uint64_t *values, void *arg)
{
	*(uint64_t *)arg += values[0];
	return NULL;
}

/*
 * Pages of quick changes are pinned many at a time, before it is certain that all of them
 * are quick: here each second one is not, for its page is shared by then.
 */
TEST_F_TIMEOUT(pin_batches, not_in_vain, TIMEOUT)
{
	static const char *const names[] = { "nr" };
	static struct vfio_pgsize_state states[CHANGES];
	const uint8_t *va = self->memory.va + HUGE;
	uint64_t asked = 0;
	uint32_t nr = 1;
	int count;

	ASSERT_SOUND(vmm_map(&self->vmm, AT, va, MIB(2), READ_WRITE | VFIO_PGSIZE_MAP_STATEFUL));
	for (int i = 0; i < CHANGES; i++)
		states[i] = (struct vfio_pgsize_state){
			.iova = AT + (CHANGES - 2 - i / 2 * 2) * PAGE,
			.size = PAGE,
			.state = VFIO_PGSIZE_STATE_SHARED,
		};
	/* There is a table from now on. */
	ASSERT_EQ(0, set_state(self->vmm.container, states, &nr));
	ASSERT_SOUND(probe_end());
	ASSERT_SOUND(probe_begin("pin_user_pages_fast nr=nr_pages:s32"));
	nr = CHANGES;
	ASSERT_EQ(0, set_state(self->vmm.container, states, &nr));
	EXPECT_EQ(CHANGES, nr);
	ASSERT_SOUND(probe_each(names, 1, &count, add_up, &asked));
	TH_LOG("%lu pages asked for", asked);
	EXPECT_LE(CHANGES / 2 - 1, asked);
	EXPECT_GE(3 * CHANGES, asked);
	EXPECT_SOUND(account_rose(&self->vmm.before, CHANGES / 2, CHANGES / 2));
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, MIB(2)));
}

TEST_PROGRAM("Checks that pages are pinned in batches, none too large.")
