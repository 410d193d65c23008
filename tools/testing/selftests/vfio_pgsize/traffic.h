/* SPDX-License-Identifier: GPL-2.0 */
/* A device that continuously copies random pages of a memory, in its own thread. */
#ifndef VFIO_PGSIZE_TRAFFIC_H
#define VFIO_PGSIZE_TRAFFIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "edu.h"

/* In memory that nobody else writes: a page every `stride` bytes. */
struct traffic {
	struct edu *edu;
	uint64_t iova;
	uint8_t *va;
	uint64_t pages;
	uint64_t stride;
	uint32_t random;
	int wanted;		/* number of copies: each reads a page and writes another */
	int copies;
	char wrong[256];
	pthread_t thread;
};

problem traffic_start(struct traffic *traffic);
bool traffic_goes_on(const struct traffic *traffic);
/* Wait for its end; all copies arrived. */
problem traffic_end(struct traffic *traffic);

#endif
