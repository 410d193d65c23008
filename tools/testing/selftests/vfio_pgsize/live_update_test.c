// SPDX-License-Identifier: GPL-2.0
/*
 * Live update: a VMM executes its successor, which takes the mappings over by
 * VFIO_UPDATE_VADDR, while a device copies pages of the guest's memory all the time.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

#define AT	GIB(1)
#define SIZE	MIB(4)
#define PAGES	((long)(SIZE / PAGE))

/* Behind the guest's memory, in the same file, and not mapped: what the processes tell each other. */
struct told {
	int copies;		/* that the device has made */
	int enough;
};

/* What a successor is told, in the words of its command line. */
enum { PROGRAM, SUCCESSOR, CONTAINER, MEMORY, PARTS, WORDS };

static problem memory_map(int file, uint8_t **va, struct told **told)
{
	*va = mmap(NULL, SIZE + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (*va == MAP_FAILED)
		return problem_is("the guest's memory: %m");
	*told = (void *)(*va + SIZE);
	return NULL;
}

/* The device goes on. */
static problem goes_on(const struct told *told)
{
	int before = __atomic_load_n(&told->copies, __ATOMIC_RELAXED);
	struct wait wait = {};

	do {
		if (__atomic_load_n(&told->copies, __ATOMIC_RELAXED) > before + 2)
			return NULL;
	} while (wait_more(&wait, MOMENT));
	return problem_is("the device has stopped after %d copies", before);
}

/* Is told when it is enough; all copies are to arrive. */
static int copy_pages(struct vmm *vmm, uint8_t *va, struct told *told)
{
	int wrong = 0;

	for (int i = 0; !wrong && !__atomic_load_n(&told->enough, __ATOMIC_RELAXED); i++) {
		uint64_t from = i * 7919 % PAGES * PAGE, to = (i * 7919 + PAGES / 2) % PAGES * PAGE;
		problem failed = edu_copy(&vmm->devices[0].edu, AT + from, va + from, AT + to,
					  va + to, PAGE);

		if (failed)
			fprintf(stderr, "# copy %d: %s\n", i, failed);
		wrong = !!failed;
		__atomic_add_fetch(&told->copies, 1, __ATOMIC_RELAXED);
	}
	return wrong;
}

/* --- the successor ------------------------------------------------------------ */

static problem take_over(int container, uint8_t *va, struct told *told, int parts)
{
	const uint64_t part = SIZE / parts;
	struct account before;
	uint64_t size = 0;
	problem wrong = account_read(&before);

	/* It is charged nothing yet, and what its predecessor was charged for went with that. */
	if (!wrong && before.locked)
		wrong = problem_is("%ld pages are locked already", before.locked);
	if (!wrong)
		wrong = goes_on(told);
	for (int i = 0; !wrong && i < parts; i++) {
		if (dma_map(container, AT + i * part, va + i * part, part, VFIO_DMA_MAP_FLAG_VADDR))
			wrong = problem_is("mapping %d does not move: %m", i);
	}
	if (!wrong)
		wrong = account_rose(&before, PAGES, 0);
	if (!wrong)
		wrong = goes_on(told);
	told->enough = 1;
	if (wrong)
		return wrong;
	/* The process that drives the device is a child of this one, as it was of the one before. */
	if (wait(&parts) < 0 || !WIFEXITED(parts) || WEXITSTATUS(parts))
		return problem_is("the device failed");
	if (dma_unmap(container, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL) || size != SIZE)
		return problem_is("%#lx bytes are unmapped: %m", size);
	return account_rose(&before, 0, -PAGES);
}

static int succeed(char **words)
{
	struct told *told = NULL;
	uint8_t *va = NULL;
	problem wrong = memory_map(atoi(words[MEMORY]), &va, &told);

	if (!wrong)
		wrong = take_over(atoi(words[CONTAINER]), va, told, atoi(words[PARTS]));
	if (wrong)
		fprintf(stderr, "# the successor: %s\n", wrong);
	return !!wrong;
}

/* --- the first VMM ---------------------------------------------------------------- */

static void stays_open(int file)
{
	fcntl(file, F_SETFD, 0);
}

static problem start(struct vmm *vmm, unsigned long type, int memory, int parts)
{
	const uint64_t part = SIZE / parts;
	struct told *told = NULL;
	uint8_t *va = NULL;
	uint64_t size = 0;
	problem wrong = memory_map(memory, &va, &told);

	if (!wrong)
		wrong = vmm_open(vmm, type, 1);
	for (int i = 0; !wrong && i < parts; i++)
		wrong = vmm_map(vmm, AT + i * part, va + i * part, part, READ_WRITE);
	if (!wrong)
		wrong = account_rose(&vmm->before, PAGES, PAGES);
	if (wrong)
		return wrong;
	if (!fork())
		_exit(copy_pages(vmm, va, told));
	wrong = goes_on(told);
	if (!wrong && dma_unmap(vmm->container, 0, &size, VFIO_DMA_UNMAP_FLAG_VADDR |
							   VFIO_DMA_UNMAP_FLAG_ALL))
		wrong = problem_is("the addresses can not be taken away: %m");
	if (!wrong && size != SIZE)
		wrong = problem_is("%#lx bytes have no address", size);
	return wrong ? wrong : goes_on(told);
}

static int live(unsigned long type, int parts)
{
	char container[16], file[16], number[16];
	char *words[] = { "live_update_test", "successor", container, file, number, NULL };
	int memory = memfd_create("guest", 0);
	struct vmm vmm;
	problem wrong;

	if (memory < 0 || ftruncate(memory, SIZE + PAGE))
		return 2;
	wrong = start(&vmm, type, memory, parts);
	if (wrong) {
		fprintf(stderr, "# the first VMM: %s\n", wrong);
		return 1;
	}
	stays_open(vmm.container);
	stays_open(vmm.devices[0].group);
	snprintf(container, sizeof(container), "%d", vmm.container);
	snprintf(file, sizeof(file), "%d", memory);
	snprintf(number, sizeof(number), "%d", parts);
	stays_open(memory);
	execv("/proc/self/exe", words);
	return 3;
}

FIXTURE(live_update) {
	struct account before;
	struct kernel_log log;
};

/* Who serves: vfio_pgsize, with these parameters; or type1. How many mappings there are. */
FIXTURE_VARIANT(live_update) {
	const char *parameters;
	unsigned long type;
	int parts;
};

FIXTURE_VARIANT_ADD(live_update, type1) { NULL, VFIO_TYPE1v2_IOMMU, 1 };
FIXTURE_VARIANT_ADD(live_update, pgsize_as_type1v2) { "serve_type1v2=1", VFIO_TYPE1v2_IOMMU, 1 };
FIXTURE_VARIANT_ADD(live_update, pgsize) { "", VFIO_PGSIZE_IOMMU, 8 };

FIXTURE_SETUP(live_update)
{
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(kernel_log_start(&self->log));
	ASSERT_SOUND(account_read(&self->before));
}

FIXTURE_TEARDOWN(live_update)
{
	EXPECT_SOUND(account_settles(&self->before));
	kernel_log_read(&self->log);
	EXPECT_EQ(0, self->log.faults);
	EXPECT_STREQ("", self->log.bug);
	kernel_log_stop(&self->log);
}

TEST_F_TIMEOUT(live_update, exec, TIMEOUT)
{
	pid_t child = fork();
	int status;

	ASSERT_LE(0, child);
	if (!child)
		_exit(live(variant->type, variant->parts));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	if (argc == WORDS && !strcmp(argv[SUCCESSOR], "successor"))
		return succeed(argv);
	return test_program(argc, argv, "Updates a VMM while a device copies its guest's memory.");
}
