// SPDX-License-Identifier: GPL-2.0
/*
 * A quarter of a terabyte of IOVA that follows in pieces of 2M of which no two neighbours are
 * contiguous in memory: the kernel memory for the rmap, and the cost of a look-up. Half a
 * gigabyte, mapped again and again, stands for all of that memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "cost.h"
#include "follow.h"
#include "harness.h"
#include "module.h"
#include "units.h"

#define AT		(1ULL << 42)
#define ALL		(1ULL << 38)
#define STRETCHES	(ALL / MIB(2))

/* 2M pages: one is not mapped, one is mapped once, the others are all the rest. */
#define PAGES		258
#define ALONE_AT	(AT + ALL + GIB(1))

/* Maximums: bytes for a watch; instructions for a look-up with probes, and for a deeper page table. */
#define BYTES		82
#define LOOK_UP		1100
#define DEEPER		1000
/* Seconds. */
#define LONG		800

FIXTURE(rmap) {
	struct vmm vmm;
	uint8_t *memory;	/* the pages, each once ... */
	uint8_t *view;		/* ... and 1G of them */
	struct guest guest;
	uint64_t nobodys;	/* offsets in `memory` */
	uint64_t single;
};

struct page {
	uint64_t offset;
	uint64_t phys;
};

static int by_falling_address(const void *one, const void *two)
{
	const struct page *a = one, *b = two;

	return a->phys < b->phys ? 1 : -(a->phys > b->phys);
}

static uint8_t *map_shared(uint8_t *at, int fd, uint64_t offset, uint64_t size)
{
	int flags = MAP_SHARED | MAP_POPULATE | (at ? MAP_FIXED : 0);

	return mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, offset);
}

/* The pages, and a view of all but two in which no neighbours are contiguous in memory. */
static problem make_view(FIXTURE_DATA(rmap) *self)
{
	int fd = memfd_create("rmap", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	struct page pages[PAGES];
	struct memory reserve;
	problem wrong = memory_alloc(&reserve, MEMFD_2M, PAGES * MIB(2));

	memory_free(&reserve);
	if (wrong)
		return wrong;
	if (fd < 0 || ftruncate(fd, PAGES * MIB(2)))
		return problem_is("no memfd of huge pages: %m");
	self->memory = map_shared(NULL, fd, 0, PAGES * MIB(2));
	self->view = mmap(NULL, GIB(1) + MIB(2), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (self->memory == MAP_FAILED || self->view == MAP_FAILED)
		return problem_is("no huge pages: %m");
	self->view = (uint8_t *)(((uintptr_t)self->view + MIB(2) - 1) & -MIB(2));
	memset(self->memory, 1, PAGES * MIB(2));
	for (int i = 0; !wrong && i < PAGES; i++) {
		pages[i].offset = i * MIB(2);
		wrong = memory_phys(self->memory + i * MIB(2), 1, &pages[i].phys);
	}
	if (wrong)
		return wrong;
	qsort(pages, PAGES, sizeof(*pages), by_falling_address);
	/* In the middle of all frames, so that the look-up does not end early. */
	self->nobodys = pages[PAGES / 2].offset;
	self->single = pages[PAGES / 2 + 1].offset;
	memmove(pages + PAGES / 2, pages + PAGES / 2 + 2, (PAGES / 2 - 2) * sizeof(*pages));
	for (uint64_t i = 0; i < GIB(1) / MIB(2); i++) {
		uint8_t *at = self->view + i * MIB(2);

		if (map_shared(at, fd, pages[i % (PAGES - 2)].offset, MIB(2)) != at)
			return problem_is("no view of the huge pages: %m");
	}
	close(fd);
	return NULL;
}

/* All is assigned to one guest in 2M, except the two. */
static problem give_to_guest(FIXTURE_DATA(rmap) *self)
{
	problem wrong = guest_start(&self->guest, self->memory, PAGES * MIB(2));

	for (uint64_t at = 0; !wrong && at < PAGES * MIB(2); at += MIB(2))
		if (at != self->nobodys && at != self->single)
			wrong = guest_assign(&self->guest, at, true);
	return wrong;
}

FIXTURE_SETUP(rmap)
{
	ASSERT_TRUE(wait_until_counting());
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(make_view(self));
	ASSERT_SOUND(give_to_guest(self));
}

FIXTURE_TEARDOWN(rmap)
{
	guest_stop(&self->guest);
	munmap(self->view, GIB(1));
	munmap(self->memory, PAGES * MIB(2));
	huge_pages_release();
}

/* Bytes of the kernel's slab objects. */
static problem slab(uint64_t *bytes)
{
	FILE *file = fopen("/proc/meminfo", "r");
	unsigned long found = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "SUnreclaim: %lu kB", &found) == 1)
			break;
	if (file)
		fclose(file);
	*bytes = found * 1024;
	return found ? NULL : problem_is("/proc/meminfo does not tell SUnreclaim");
}

/* Maps the view again and again; returns the bytes of slab objects for that. */
static problem map_all(FIXTURE_DATA(rmap) *self, uint32_t flags, uint64_t *bytes)
{
	uint64_t before = 0, after = 0;
	problem wrong = vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1);

	if (!wrong)
		wrong = vmm_policy(&self->vmm, flags, UPTO_2M);
	if (!wrong)
		wrong = slab(&before);
	for (uint64_t at = 0; !wrong && at < ALL; at += GIB(1))
		wrong = vmm_map(&self->vmm, AT + at, self->view, GIB(1), READ_WRITE);
	if (!wrong)
		wrong = slab(&after);
	*bytes = after > before ? after - before : 0;
	return wrong;
}

TEST_F_TIMEOUT(rmap, of_much_memory, LONG)
{
	uint64_t without, with, per_stretch;
	struct cost alone, nobody, one;

	ASSERT_SOUND(follow_ends());
	ASSERT_SOUND(cost_of(&self->guest, self->nobodys, &alone));
	ASSERT_SOUND(map_all(self, 0, &without));
	EXPECT_FALSE(follow_is_hooked());
	ASSERT_SOUND(vmm_close(&self->vmm));

	ASSERT_SOUND(map_all(self, FOLLOW, &with));
	ASSERT_SOUND(vmm_map(&self->vmm, ALONE_AT, self->memory + self->single, MIB(2), READ_WRITE));
	ASSERT_LT(without, with);
	per_stretch = (with - without) / STRETCHES;
	ksft_print_msg("%llu stretches of 2M, %llu MiB of small objects; not followed %llu MiB\n",
		       STRETCHES, with / MIB(1), without / MIB(1));
	ksft_print_msg("%lu bytes for a stretch\n", per_stretch);
	EXPECT_GE(BYTES, per_stretch);
	/* Otherwise neighbours were contiguous. */
	EXPECT_LT(40, per_stretch);

	ASSERT_SOUND(cost_of(&self->guest, self->nobodys, &nobody));
	nobody = cost_beyond(nobody, alone);
	ASSERT_SOUND(cost_of(&self->guest, self->single, &one));
	one = cost_beyond(one, alone);
	ksft_print_msg("smash of what nobody maps: +%lu instructions, of what is mapped once: +%lu\n",
		       nobody.smash, one.smash);
	EXPECT_GE(LOOK_UP, nobody.smash);
	EXPECT_GE(LOOK_UP + SPLIT_COST + DEEPER, one.smash);
	ASSERT_SOUND(vmm_close(&self->vmm));
}

TEST_PROGRAM("Memory and time to find much followed memory by its frames.")
