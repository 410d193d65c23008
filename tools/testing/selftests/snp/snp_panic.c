// SPDX-License-Identifier: GPL-2.0
/*
 * Panics while another processor is held in the hook, at the step in the argument.
 * tools/vm/panics.py has the expected result.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "follow.h"
#include "gates.h"
#include "guest.h"
#include "module.h"
#include "units.h"

#define AT	GIB(4)
#define HALF	MIB(8)

/* Milliseconds: the kernel waits a second for processors to stop. */
#define PATIENCE "30000"

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *smash(void *guest)
{
	run_on(1);
	guest_smash(guest, 0);
	return NULL;
}

static problem write_to(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return problem_is("%s: %m", file);
	close(fd);
	return NULL;
}

static problem panic_at(int step)
{
	/* Wait for a step of a map, which nobody reaches. */
	struct gates gates = { .numbers = { step, PGSIZE_STEP_MAP_BEGINS }, .nr = 2 };
	struct guest held = {}, panics = {};
	struct memory memory = {};
	char text[128];
	struct vmm vmm;
	pthread_t thread;
	problem wrong;

	run_on(0);
	wrong = module_require("");
	if (!wrong)
		wrong = write_to("/sys/module/vfio_pgsize/parameters/busy_patience", PATIENCE);
	if (!wrong)
		wrong = memory_alloc(&memory, HUGETLB_2M, 2 * HALF);
	if (!wrong)
		wrong = vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1);
	if (!wrong)
		wrong = vmm_policy(&vmm, FOLLOW, UPTO_2M);
	if (!wrong)
		wrong = vmm_map(&vmm, AT, memory.va, 2 * HALF, READ_WRITE);
	if (!wrong)
		wrong = guest_start(&held, memory.va, HALF);
	if (!wrong)
		wrong = guest_start(&panics, memory.va + HALF, HALF);
	if (!wrong)
		wrong = guest_assign(&held, 0, true);
	if (!wrong)
		wrong = guest_assign(&panics, 0, true);
	if (!wrong)
		wrong = guest_assign(&panics, MIB(2) + PAGE, false);
	if (!wrong)
		wrong = gates_set(&gates);
	if (!wrong && pthread_create(&thread, NULL, smash, &held))
		wrong = problem_is("no thread");
	if (!wrong)
		wrong = gates_wait(step);
	snprintf(text, sizeof(text), "<0>snp_panic: held at \"%s\"\n", gates_name(step));
	if (!wrong)
		wrong = write_to("/dev/kmsg", text);
	return wrong ? wrong : guest_panic(&panics, 0, MIB(2) + PAGE);
}

int main(int argc, char **argv)
{
	for (int step = PGSIZE_STEP_SMASH_BEGINS; step < PGSIZE_STEPS; step++)
		if (argc == 2 && !strcmp(argv[1], gates_name(step))) {
			fprintf(stderr, "snp_panic: %s\n", panic_at(step));
			return 1;
		}
	fprintf(stderr, "Usage: snp_panic STEP\n");
	for (int step = PGSIZE_STEP_SMASH_BEGINS; step < PGSIZE_STEPS; step++)
		fprintf(stderr, "  %s\n", gates_name(step));
	return 2;
}
