// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "units.h"
#include "workload.h"

/* And some for programs that measure other things as well. */
#define HUGE_PAGES_NEEDED	(BLOCKS + 8)
#define HUGE_PAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

problem workload_memory(struct memory *memory)
{
	int fd = memfd_create("guest", MFD_HUGETLB | MFD_HUGE_2MB);
	FILE *file = fopen(HUGE_PAGES, "r+");
	uint8_t *room;
	int found = 0;

	if (!file || fprintf(file, "%d\n", HUGE_PAGES_NEEDED) < 0 || fflush(file))
		return problem_is(HUGE_PAGES ": %m");
	rewind(file);
	if (fscanf(file, "%d", &found) != 1 || found < HUGE_PAGES_NEEDED)
		return problem_is("%d huge pages are to be had, not %d", found, HUGE_PAGES_NEEDED);
	fclose(file);
	if (fd < 0 || ftruncate(fd, RANGE))
		return problem_is("no memfd of %llu bytes: %m", RANGE);
	room = mmap(NULL, RANGE + MIB(2), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		    0);
	if (room == MAP_FAILED)
		return problem_is("no room for %llu bytes: %m", RANGE);
	memory->size = RANGE;
	memory->va = mmap((void *)(((uintptr_t)room + MIB(2) - 1) & -MIB(2)), RANGE,
			  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
	close(fd);
	if (memory->va == MAP_FAILED)
		return problem_is("the memfd cannot be mapped: %m");
	/* The cost of faulting memory in is not measured. */
	for (int block = 0; block < BLOCKS; block++)
		memory->va[block * SPREAD] = 1;
	return NULL;
}

void workload_start(struct workload *workload, struct memory memory)
{
	memset(workload, 0, sizeof(*workload));
	workload->random = 88172645463325252;
	workload->memory = memory;
}

static uint64_t next_random(struct workload *workload)
{
	workload->random ^= workload->random << 13;
	workload->random ^= workload->random >> 7;
	workload->random ^= workload->random << 17;
	return workload->random;
}

struct piece workload_next(struct workload *workload)
{
	uint64_t random = next_random(workload);
	uint64_t pages = 1ULL << __builtin_ctzll(random >> 32 | BLOCK_PAGES);
	uint64_t block = (random >> 1) % BLOCKS;
	struct piece piece = {
		.first = block * BLOCK_PAGES + (random >> 10 & 0xffff) % (BLOCK_PAGES - pages + 1),
		.pages = pages,
		.share = random & 1,
	};

	return piece;
}

void workload_note(struct workload *workload, struct piece piece)
{
	for (uint64_t page = piece.first; page < piece.first + piece.pages; page++) {
		workload->nr_shared += piece.share - workload->shared[page];
		workload->shared[page] = piece.share;
	}
}

static problem expect(const struct workload *workload, const struct vmm *vmm,
		      struct leaves *leaves)
{
	problem wrong = NULL;

	for (uint64_t page = 0, end; !wrong && page < ALL_PAGES; page = end) {
		for (end = page + 1; end % BLOCK_PAGES && workload->shared[end] ==
							  workload->shared[page]; end++)
			;
		if (workload->shared[page])
			wrong = leaves_tile(leaves, AT + offset_of(page),
					    workload->memory.va + offset_of(page),
					    (end - page) * PAGE, UPTO_2M & vmm->sizes, READ_WRITE);
	}
	return wrong;
}

problem workload_agrees(const struct workload *workload, struct vmm *vmm, bool ask_oracle)
{
	struct leaves expected = {}, found = {};
	problem wrong = expect(workload, vmm, &expected);
	struct info info;

	if (!wrong && ask_oracle)
		wrong = vmm_has_leaves(vmm, &expected);
	else if (!wrong)
		wrong = leaves_query(&found, vmm->container, 0, 0, EVERYWHERE);
	if (!wrong && !ask_oracle)
		wrong = leaves_differ(&expected, &found);
	leaves_free(&expected);
	leaves_free(&found);
	if (!wrong)
		wrong = account_rose(&vmm->before, workload->nr_shared, workload->nr_shared);
	if (!wrong)
		wrong = container_info(vmm->container, &info);
	if (!wrong && info.dma_avail != UINT16_MAX - 1)
		wrong = problem_is("%d mappings are left of %d: more than one is used",
				   info.dma_avail, UINT16_MAX);
	return wrong;
}
