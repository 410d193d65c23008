// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../../../samples/c/vfio_open.h"
#include "edu.h"
#include "wait.h"

/* Microseconds between two checks for the end of a transfer. */
#define TRANSFER	2000

static unsigned long device_attribute(const char *bdf, const char *name)
{
	unsigned long value = 0;
	char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, name);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fscanf(file, "%lx", &value) != 1)
		value = 0;
	fclose(file);
	return value;
}

problem edu_find(int index, char bdf[BDF_SIZE])
{
	struct dirent **entries;
	int nr = scandir("/sys/bus/pci/devices", &entries, NULL, alphasort);
	int found = 0;

	if (nr < 0)
		return problem_is("/sys/bus/pci/devices: %m");
	bdf[0] = '\0';
	for (int i = 0; i < nr; i++) {
		const char *name = entries[i]->d_name;

		if (strlen(name) == BDF_SIZE - 1 &&
		    device_attribute(name, "vendor") == EDU_VENDOR &&
		    device_attribute(name, "device") == EDU_DEVICE && found++ == index)
			strcpy(bdf, name);
		free(entries[i]);
	}
	free(entries);
	if (!bdf[0])
		return problem_is("the machine has %d edu devices, the test needs %d", found,
				  index + 1);
	return NULL;
}

problem edu_open(struct edu *edu, int device, const char *bdf)
{
	void *registers = vfio_map_bar0(device, EDU_BAR_SIZE);

	if (registers == MAP_FAILED)
		return problem_is("%s: BAR 0 cannot be mapped with DMA on: %m", bdf);
	edu->device = device;
	edu->registers = registers;
	edu->bar_phys = device_attribute(bdf, "resource");
	return NULL;
}

void edu_close(struct edu *edu)
{
	if (!edu->registers)
		return;
	munmap((void *)edu->registers, EDU_BAR_SIZE);
	close(edu->device);
	edu->registers = NULL;
}

uint32_t edu_read_register(struct edu *edu, uint32_t at)
{
	return *(volatile uint32_t *)(edu->registers + at);
}

void edu_write_register(struct edu *edu, uint32_t at, uint32_t value)
{
	*(volatile uint32_t *)(edu->registers + at) = value;
}

static problem transfer(struct edu *edu, uint64_t source, uint64_t target, uint32_t size,
			uint64_t direction)
{
	struct wait wait = {};

	edu_start(edu->registers, source, target, size, direction);
	do {
		if (!edu_is_busy(edu->registers))
			return NULL;
	} while (wait_more(&wait, TRANSFER));
	return problem_is("a DMA transfer does not end");
}

problem edu_fetch(struct edu *edu, uint64_t iova, uint32_t size)
{
	return transfer(edu, iova, EDU_BUFFER, size, 0);
}

problem edu_store(struct edu *edu, uint64_t iova, uint32_t size)
{
	return transfer(edu, EDU_BUFFER, iova, size, EDU_TO_MEMORY);
}

problem edu_copy(struct edu *edu, uint64_t from, uint8_t *from_va, uint64_t to, uint8_t *to_va,
		 uint32_t size)
{
	problem wrong;

	fill_with_pattern(from_va, size);
	memset(to_va, 0, size);
	wrong = edu_fetch(edu, from, size);
	if (!wrong)
		wrong = edu_store(edu, to, size);
	if (wrong)
		return wrong;
	for (uint32_t i = 0; i < size; i++) {
		if (from_va[i] != to_va[i])
			return problem_is("DMA from %#lx to %#lx: byte %u is %#x, not %#x", from,
					  to, i, to_va[i], from_va[i]);
	}
	return NULL;
}

void fill_with_pattern(uint8_t *at, uint32_t size)
{
	static uint32_t seed;
	uint32_t value = __atomic_add_fetch(&seed, 1, __ATOMIC_RELAXED) * 2654435761u | 1;

	for (uint32_t i = 0; i < size; i++) {
		value ^= value << 13;
		value ^= value >> 17;
		value ^= value << 5;
		at[i] = value | 1;	/* no byte is 0, unlike unwritten memory */
	}
}
