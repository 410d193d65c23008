// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "device.h"
#include "rmp.h"
#include "units.h"
#include "wait.h"

/* Offset of the word in its page. */
#define WORD		0x40

static uint64_t scratch_iova(const struct device *device)
{
	return SCRATCH_IOVA + (device->index - device->vmm->first) * PAGE;
}

problem device_start(struct device *device, struct vmm *vmm, int index)
{
	problem wrong;

	device->vmm = vmm;
	device->index = index;
	wrong = memory_alloc(&device->scratch, ANON_4K, PAGE);
	if (wrong)
		return wrong;
	return vmm_map(vmm, scratch_iova(device), device->scratch.va, PAGE, READ_WRITE);
}

void device_stop(struct device *device)
{
	memory_free(&device->scratch);
}

static struct edu *edu_of(struct device *device)
{
	return &device->vmm->devices[device->index].edu;
}

static problem give_word(struct device *device, uint32_t word)
{
	*(volatile uint32_t *)device->scratch.va = word;
	return edu_fetch(edu_of(device), scratch_iova(device), sizeof(word));
}

static problem take_word(struct device *device, uint32_t *word)
{
	volatile uint32_t *scratch = (volatile uint32_t *)device->scratch.va;
	problem wrong;

	*scratch = 0;
	wrong = edu_store(edu_of(device), scratch_iova(device), sizeof(*word));
	*word = *scratch;
	return wrong;
}

static problem try_read(struct device *device, uint64_t iova, uint32_t expected, bool *read)
{
	uint32_t got = 0;
	problem wrong = give_word(device, ~expected);

	if (!wrong)
		wrong = edu_fetch(edu_of(device), iova + WORD, sizeof(got));
	if (!wrong)
		wrong = take_word(device, &got);
	*read = got == expected;
	return wrong;
}

static problem try_write(struct device *device, uint64_t iova, const volatile uint32_t *memory,
			 bool *written)
{
	uint32_t old = *memory, new = old ^ 0x02020202;
	problem wrong = give_word(device, new);

	if (!wrong)
		wrong = edu_store(edu_of(device), iova + WORD, sizeof(new));
	*written = *memory == new;
	if (!wrong && !*written && *memory != old)
		return problem_is("DMA to %#lx left %#x, where %#x was and %#x was to be", iova,
				  *memory, old, new);
	return wrong;
}

problem device_try(struct device *device, uint64_t iova, const uint8_t *va, struct access *access)
{
	const volatile uint32_t *memory = (const volatile uint32_t *)(va + WORD);
	problem wrong = try_read(device, iova, *memory, &access->read);

	return wrong ? wrong : try_write(device, iova, memory, &access->written);
}

problem device_access(struct device *device, uint64_t iova, const uint8_t *va,
		      struct access *access)
{
	struct rmp_counts before, after;
	problem wrong = rmp_counts(&before);

	if (!wrong)
		wrong = device_try(device, iova, va, access);
	if (!wrong)
		wrong = rmp_counts(&after);
	if (wrong)
		return wrong;
	access->faults = after.dma_faults - before.dma_faults;
	access->size_faults = after.dma_size_faults - before.dma_size_faults;
	return NULL;
}

problem device_works(struct device *device, uint64_t iova, const uint8_t *va)
{
	struct access access;
	problem wrong = device_access(device, iova, va, &access);

	if (!wrong && !(access.read && access.written && !access.faults))
		wrong = problem_is("DMA at %#lx is to work: %s, %s, %lu faults (%lu by size)",
				   iova, access.read ? "read" : "NOT read",
				   access.written ? "written" : "NOT written", access.faults,
				   access.size_faults);
	return wrong;
}

problem device_is_refused(struct device *device, uint64_t iova, const uint8_t *va, enum fault why)
{
	struct access access;
	problem wrong = device_access(device, iova, va, &access);

	if (wrong || (!access.read && !access.written && access.faults == 2 &&
		      access.size_faults == (why == FAULT_SIZE ? 2 : 0)))
		return wrong;
	return problem_is("DMA at %#lx is to fault%s: %s, %s, %lu faults (%lu by size)", iova,
			  why == FAULT_SIZE ? " by the leaf's size" : "",
			  access.read ? "READ" : "not read",
			  access.written ? "WRITTEN" : "not written", access.faults,
			  access.size_faults);
}

static bool is_logged(struct device *device, uint64_t iova, int before)
{
	struct kernel_log *log = &device->vmm->log;

	kernel_log_wait_for_rmp_fault(log, before);
	return log->rmp_faults > before && log->rmp_iova / PAGE == iova / PAGE &&
	       !strncmp(log->rmp_device, device->vmm->devices[device->index].bdf, BDF_SIZE - 1);
}

problem device_faults(struct device *device, uint64_t iova, const uint8_t *va, enum fault why)
{
	struct kernel_log *log = &device->vmm->log;
	struct wait wait = {};

	device->vmm->faults_expected = 1;
	do {
		problem wrong;
		int before;

		kernel_log_read(log);
		before = log->rmp_faults;
		wrong = device_is_refused(device, iova, va, why);
		if (wrong || is_logged(device, iova, before))
			return wrong;
	} while (wait_more(&wait, 0));
	return problem_is("DMA at %#lx faults, and the kernel logs no RMP_PAGE_FAULT of it", iova);
}
