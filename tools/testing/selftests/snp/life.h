/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest's life: 2M pieces of memory that are private, or shared in 4K pages, while a
 * device continuously does DMA to shared pages. The device knows which pages are private,
 * like a guest's driver, and never touches one.
 */
#ifndef SNP_LIFE_H
#define SNP_LIFE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "device.h"
#include "guest.h"
#include "pages.h"
#include "problem.h"

#define LIFE_HUGE	16			/* pieces of 2M */
#define LIFE_SIZE	(LIFE_HUGE * (2ULL << 20))
#define LIFE_PAGES	(LIFE_SIZE / 4096)
#define LIFE_IOVA	(1ULL << 32)

struct life {
	struct guest guest;
	struct device device;
	struct pages *pages;	/* the mapping, if it is stateful: the VMM sets the states */
	/* For each 4K page: whether the device may use it, and whether it prefers it. */
	atomic_uchar shared[LIFE_PAGES];
	atomic_uchar wanted[LIFE_PAGES];

	pthread_t thread;
	atomic_bool stop;
	atomic_bool rest;
	atomic_long page;	/* in use by the device; -1: none */
	atomic_ulong done;	/* transfers to and from shared pages ... */
	atomic_ulong failed;	/* ... and failed ones */
	_Atomic(problem) wrong;	/* why the thread ended: text in ... */
	char text[512];
};

/*
 * The memory is mapped at LIFE_IOVA in the device's container, and shared. `pages` is NULL
 * if pages have no state.
 */
problem life_start(struct life *life, struct vmm *vmm, uint8_t *memory, struct pages *pages);
problem life_stop(struct life *life);

/* Private <-> shared, a 4K page or a 2M; the device releases it first. */
problem life_make_private(struct life *life, uint64_t at, bool huge);
problem life_make_shared(struct life *life, uint64_t at, bool huge);

/* Make the device prefer this shared page, or no longer. */
void life_want(struct life *life, uint64_t at, bool on);

/* Pause the device between two transfers, so that its results can be counted. */
void life_rest(struct life *life, bool on);

/* Wait for this many more transfers, successful or failed. */
problem life_goes_on(struct life *life, unsigned long transfers);

#endif
