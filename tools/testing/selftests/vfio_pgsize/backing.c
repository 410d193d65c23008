// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "backing.h"
#include "units.h"

#define PAGEMAP_PRESENT	(1ULL << 63)
#define PAGEMAP_FRAME	((1ULL << 55) - 1)

static long huge_page_count(uint64_t size, const char *name, long set)
{
	char path[128];
	long count = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/%s", size / 1024,
		 name);
	file = fopen(path, set < 0 ? "r" : "w");
	if (!file)
		return -1;
	if (set < 0 ? fscanf(file, "%ld", &count) != 1 : fprintf(file, "%ld\n", set) < 0)
		count = -1;
	fclose(file);
	return count;
}

/* The number of 1G pages before the test needed any. */
static long huge_1g_before = -1;

static problem reserve_huge_pages(uint64_t page, uint64_t size)
{
	long wanted = size / page;
	long all = huge_page_count(page, "nr_hugepages", -1);
	long unused = huge_page_count(page, "free_hugepages", -1);

	if (all < 0 || unused < 0)
		return problem_is("the kernel has no huge pages of %lu KiB", page / 1024);
	if (page == GIB(1) && huge_1g_before < 0)
		huge_1g_before = all;
	if (unused >= wanted)
		return NULL;
	huge_page_count(page, "nr_hugepages", all + wanted - unused);
	unused = huge_page_count(page, "free_hugepages", -1);
	if (unused < wanted)
		return problem_is("%ld huge pages of %lu KiB are free, %ld are needed: give the machine more memory",
				  unused, page / 1024, wanted);
	return NULL;
}

long huge_pages_free(uint64_t size)
{
	return huge_page_count(size, "free_hugepages", -1);
}

void huge_pages_release(void)
{
	huge_page_count(MIB(2), "nr_hugepages", 0);
	if (huge_1g_before >= 0)
		huge_page_count(GIB(1), "nr_hugepages", huge_1g_before);
}

static uint64_t huge_page_of(enum backing backing)
{
	switch (backing) {
	case HUGETLB_2M:
	case MEMFD_2M:
		return MIB(2);
	case HUGETLB_1G:
		return GIB(1);
	default:
		return 0;
	}
}

/* Map memory of one kind at `at`, replacing what is there. */
static problem map_at(uint8_t *at, enum backing backing, uint64_t size)
{
	uint64_t huge = huge_page_of(backing);
	int flags = MAP_FIXED | MAP_POPULATE, fd = -1;
	uint8_t *va;

	if (huge) {
		problem wrong = reserve_huge_pages(huge, size);

		if (wrong)
			return wrong;
	}
	if (backing == MEMFD || backing == MEMFD_2M) {
		fd = memfd_create("vfio_pgsize", huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
		if (fd < 0 || ftruncate(fd, size))
			return problem_is("no memfd of %#lx bytes: %m", size);
		flags |= MAP_SHARED;
	} else {
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
		if (huge)
			flags |= MAP_HUGETLB | __builtin_ctzll(huge) << MAP_HUGE_SHIFT;
		else
			flags &= ~MAP_POPULATE;	/* after madvise() */
	}
	va = mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (fd >= 0)
		close(fd);
	if (va == MAP_FAILED)
		return problem_is("no %#lx bytes of memory: %m", size);
	if (backing == THP && madvise(va, size, MADV_HUGEPAGE))
		return problem_is("no transparent huge pages: %m");
	if (backing == ANON_4K)
		madvise(va, size, MADV_NOHUGEPAGE);	/* fails if the kernel has no THP */
	/* MAP_POPULATE has cleared private huge pages. Shared memory it only maps for reading. */
	if (!huge || fd >= 0)
		memset(va, 0, size);
	return NULL;
}

/* Whether these are 2M pages, as requested. The tests of large leaves depend on it. */
static problem is_huge(const uint8_t *va, uint64_t size)
{
	uint64_t phys[512];

	for (uint64_t at = 0; at < size; at += MIB(2)) {
		problem wrong = memory_phys(va + at, 512, phys);

		if (wrong)
			return wrong;
		for (int i = 0; i < 512; i++) {
			if (phys[i] != phys[0] + i * PAGE || phys[0] % MIB(2))
				return problem_is("no transparent huge page at offset %#lx", at);
		}
	}
	return NULL;
}

problem memory_alloc(struct memory *memory, enum backing backing, uint64_t size)
{
	uint64_t align = backing == HUGETLB_1G ? GIB(1) : MIB(2), quarter = size / 4;
	uint8_t *room = mmap(NULL, size + align, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	problem wrong;

	if (room == MAP_FAILED)
		return problem_is("no address space for %#lx bytes: %m", size);
	memory->va = (uint8_t *)(((uintptr_t)room + align - 1) & -align);
	memory->size = size;
	munmap(room, memory->va - room);
	munmap(memory->va + size, room + align - memory->va);
	if (backing != MIXED) {
		wrong = map_at(memory->va, backing, size);
		return wrong || backing != THP ? wrong : is_huge(memory->va, size);
	}
	wrong = map_at(memory->va, HUGETLB_2M, quarter);
	if (!wrong)
		wrong = map_at(memory->va + quarter, ANON_4K, quarter);
	if (!wrong)
		wrong = map_at(memory->va + 2 * quarter, MEMFD, quarter);
	if (!wrong)
		wrong = map_at(memory->va + 3 * quarter, THP, quarter);
	return wrong;
}

void memory_free(struct memory *memory)
{
	if (memory->va)
		munmap(memory->va, memory->size);
	memory->va = NULL;
}

problem memory_phys(const void *va, uint64_t pages, uint64_t *phys)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t size = pages * sizeof(*phys), done = 0;

	if (fd < 0)
		return problem_is("/proc/self/pagemap: %m");
	while (done < size) {
		ssize_t got = pread(fd, (char *)phys + done, size - done,
				    (uintptr_t)va / PAGE * sizeof(*phys) + done);

		if (got <= 0) {
			close(fd);
			return problem_is("/proc/self/pagemap cannot be read at %p: %m", va);
		}
		done += got;
	}
	close(fd);
	for (uint64_t i = 0; i < pages; i++) {
		if (!(phys[i] & PAGEMAP_PRESENT) || !(phys[i] & PAGEMAP_FRAME))
			return problem_is("page %lu of %p has no physical address", i, va);
		phys[i] = (phys[i] & PAGEMAP_FRAME) * PAGE;
	}
	return NULL;
}
