// SPDX-License-Identifier: GPL-2.0
/* The cost of dirty tracking. A device writes the pages that are to be dirty. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../samples/c/edu_registers.h"
#include "../../samples/c/vfio_open.h"
#include "bench.h"

/* Microseconds that a transfer takes. */
#define TRANSFER	1100

static void write_all(volatile uint8_t *registers, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += PAGE) {
		edu_start(registers, EDU_BUFFER, IOVA + at, sizeof(uint64_t), EDU_TO_MEMORY);
		while (edu_is_busy(registers))
			usleep(TRANSFER);
	}
}

static void expect_dirty(const struct setting *setting, const uint64_t *bitmap, uint64_t pages)
{
	uint64_t found = 0;

	for (uint64_t i = 0; i < setting->memory.size / PAGE / 64; i++)
		found += __builtin_popcountll(bitmap[i]);
	if (found != pages) {
		errno = 0;
		die("%s: %" PRIu64 " pages are dirty, not %" PRIu64, setting->backend->name, found,
		    pages);
	}
}

void measure_dirty(const struct setting *setting)
{
	const struct backend *backend = setting->backend;
	const uint64_t size = setting->memory.size, pages = size / PAGE, bytes = pages / 8;
	struct series start = {}, stop = {}, clean = {}, written = {};
	uint64_t *bitmap = malloc(bytes);
	int fd = backend->open_device(setting->device);
	void *registers = fd < 0 ? MAP_FAILED : vfio_map_bar0(fd, EDU_BAR_SIZE);

	if (!bitmap || registers == MAP_FAILED)
		die("%s: its registers cannot be mapped", setting->device);
	backend->map(setting->memory.start, 0, size);
	for (unsigned int i = 0; i < setting->rounds; i++) {
		COUNT(start, backend->track(true));
		memset(bitmap, 0, bytes);
		COUNT(clean, backend->read_dirty(size, bitmap));
		expect_dirty(setting, bitmap, backend->all_dirty ? pages : 0);
		if (!backend->all_dirty)
			write_all(registers, size);
		memset(bitmap, 0, bytes);
		COUNT(written, backend->read_dirty(size, bitmap));
		expect_dirty(setting, bitmap, pages);
		COUNT(stop, backend->track(false));
	}
	backend->unmap(0, size);
	munmap(registers, EDU_BAR_SIZE);
	close(fd);
	free(bitmap);
	print_series(setting, "start", size, &start, -1);
	print_series(setting, "stop", size, &stop, -1);
	print_series(setting, "dirty-clean", size, &clean, -1);
	print_series(setting, "dirty-written", size, &written, -1);
}
