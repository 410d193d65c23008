// SPDX-License-Identifier: GPL-2.0
/* Memory that is mapped in pieces of 4K, with a call for each. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* Less memory and fewer rounds than otherwise: a call takes thousands of instructions. */
#define PIECES_SIZE	(16 * HUGE_PAGE)
#define PIECES_ROUNDS	2

enum order { ASCENDING, DESCENDING, RANDOM, ORDERS };

static const char *const works[ORDERS][2] = {
	{ "map-ascending", "unmap-ascending" },
	{ "map-descending", "unmap-descending" },
	{ "map-random", "unmap-random" },
};

static uint64_t *places_in_order(enum order order, uint64_t count)
{
	uint64_t *places = calloc(count, sizeof(*places));

	if (!places)
		die("no memory");
	srandom(1);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t other = order == RANDOM ? random() % (i + 1) : i;

		places[i] = places[other];
		places[other] = (order == DESCENDING ? count - 1 - i : i) * PAGE;
	}
	return places;
}

/* Unreclaimable slab memory, in bytes: without page tables. */
static int64_t slab_bytes(void)
{
	char line[128];
	long kib = -1;
	FILE *file;

	/* The counters of each processor are folded in only now and then. */
	write_number("/proc/sys/vm/stat_refresh", 1);
	file = fopen("/proc/meminfo", "r");
	while (file && kib < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "SUnreclaim: %ld", &kib) != 1)
			kib = -1;
	if (kib < 0)
		die("/proc/meminfo: no SUnreclaim");
	fclose(file);
	return kib * 1024;
}

static void map_all(const struct backend *backend, const struct memory *memory,
		    const uint64_t *places, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		backend->map(memory->start, places[i], PAGE);
}

static void unmap_all(const struct backend *backend, const uint64_t *places, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		backend->unmap(places[i], PAGE);
}

void measure_pieces(const struct setting *setting)
{
	const struct backend *backend = setting->backend;
	const struct memory *memory = &setting->memory;
	unsigned int rounds = setting->rounds < PIECES_ROUNDS ? setting->rounds : PIECES_ROUNDS;
	uint64_t bytes = memory->size < PIECES_SIZE ? memory->size : PIECES_SIZE;
	uint64_t count = bytes / PAGE;
	int64_t least = INT64_MAX;

	for (enum order order = 0; order < ORDERS; order++) {
		uint64_t *places = places_in_order(order, count);
		struct series map = {}, unmap = {};

		for (unsigned int round = 0; round < rounds; round++) {
			int64_t before = slab_bytes(), taken;

			COUNT(map, map_all(backend, memory, places, count));
			taken = slab_bytes() - before;
			least = taken < least ? taken : least;
			COUNT(unmap, unmap_all(backend, places, count));
		}
		print_series(setting, works[order][0], bytes, &map, -1);
		print_series(setting, works[order][1], bytes, &unmap, -1);
		free(places);
	}
	printf("{\"kind\": \"pieces\", \"backend\": \"%s\", \"memory\": \"%s\", \"pieces\": %" PRIu64
	       ", \"kernel_bytes\": %" PRId64 "}\n", backend->name, memory_names[setting->kind], count,
	       least < 0 ? 0 : least);
	fflush(stdout);
}
