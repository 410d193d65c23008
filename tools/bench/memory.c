// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define HUGETLB_2M	(21 << 26)	/* MAP_HUGE_2MB */
#define HUGETLB_PAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

#define PAGEMAP_PRESENT	(1ULL << 63)
#define PAGEMAP_PFN	((1ULL << 55) - 1)

const char *const memory_names[MEMORY_KINDS] = {
	[MEMORY_HUGETLB] = "hugetlb",
	[MEMORY_THP] = "thp",
	[MEMORY_SEQUENTIAL] = "sequential",
	[MEMORY_SCATTERED] = "scattered",
};

static uint64_t *read_frames(const struct memory *memory)
{
	uint64_t pages = memory->size / PAGE;
	size_t bytes = pages * sizeof(uint64_t);
	uint64_t *frames = malloc(bytes);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	off_t offset = (uintptr_t)memory->start / PAGE * sizeof(uint64_t);

	if (!frames || pagemap < 0 ||
	    pread(pagemap, frames, bytes, offset) != (ssize_t)bytes)
		die("/proc/self/pagemap: cannot read it");
	close(pagemap);
	for (uint64_t i = 0; i < pages; i++) {
		if (!(frames[i] & PAGEMAP_PRESENT))
			die("page %llu of the memory is not present", (unsigned long long)i);
		frames[i] &= PAGEMAP_PFN;
	}
	return frames;
}

/* Whether each 2M of it lies in one 2M of physical memory. */
static bool is_huge(const uint64_t *frames, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		if (frames[i] != frames[i & ~511ULL] + (i & 511) ||
		    (frames[i & ~511ULL] & 511))
			return false;
	return true;
}

static uint64_t count_runs(const uint64_t *frames, uint64_t pages)
{
	uint64_t runs = 1;

	for (uint64_t i = 1; i < pages; i++)
		runs += frames[i] != frames[i - 1] + 1;
	return runs;
}

/*
 * The kernel allocates frames in about rising order: faults pages in at random, so
 * that neighbours have distant frames.
 */
static void fault_in_at_random(struct memory *memory)
{
	uint64_t pages = memory->size / PAGE;
	uint64_t *order = malloc(pages * sizeof(*order));

	if (!order)
		die("no memory");
	srandom(1);
	for (uint64_t i = 0; i < pages; i++)
		order[i] = i;
	for (uint64_t i = pages - 1; i; i--) {
		uint64_t j = random() % (i + 1), other = order[i];

		order[i] = order[j];
		order[j] = other;
	}
	for (uint64_t i = 0; i < pages; i++)
		memory->start[order[i] * PAGE] = 1;
	free(order);
}

/* The request guarantees nothing: check what the kernel allocated. */
static void check(struct memory *memory, enum memory_kind kind)
{
	uint64_t pages = memory->size / PAGE;
	uint64_t *frames = read_frames(memory);

	memory->runs = count_runs(frames, pages);
	switch (kind) {
	case MEMORY_HUGETLB:
	case MEMORY_THP:
		if (!is_huge(frames, pages))
			die("the kernel gave no huge pages for %s memory",
			    memory_names[kind]);
		break;
	case MEMORY_SCATTERED:
		if (memory->runs < pages * 9 / 10)
			die("scattered memory is of %llu runs only",
			    (unsigned long long)memory->runs);
		break;
	default:
		break;
	}
	free(frames);
}

struct memory allocate_memory(enum memory_kind kind, uint64_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	struct memory memory = {
		.size = size,
		.reserved_size = size + HUGE_PAGE,
	};

	if (kind == MEMORY_HUGETLB) {
		memory.reserved_size = size;
		flags |= MAP_HUGETLB | HUGETLB_2M;
		write_number(HUGETLB_PAGES, size / HUGE_PAGE);
	}
	memory.reserved = mmap(NULL, memory.reserved_size, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (memory.reserved == MAP_FAILED)
		die("no %s memory of %llu bytes", memory_names[kind],
		    (unsigned long long)size);
	memory.start = (uint8_t *)(((uintptr_t)memory.reserved + HUGE_PAGE - 1) & -HUGE_PAGE);

	if (kind != MEMORY_HUGETLB &&
	    madvise(memory.reserved, memory.reserved_size,
		    kind == MEMORY_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		die("madvise");
	if (kind == MEMORY_SCATTERED)
		fault_in_at_random(&memory);
	else
		memset(memory.start, 1, size);
	check(&memory, kind);
	return memory;
}

void free_memory(struct memory *memory)
{
	munmap(memory->reserved, memory->reserved_size);
	write_number(HUGETLB_PAGES, 0);
}
