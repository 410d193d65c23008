// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edu.h"
#include "life.h"
#include "units.h"
#include "wait.h"

#define NONE		(-1L)

static const struct timespec pause_a_little = { .tv_nsec = 1000000 };

/* A random shared page; every other time a preferred one, if any. */
static long choose(struct life *life, unsigned int *seed)
{
	unsigned int start = rand_r(seed) % LIFE_PAGES;
	bool prefer = rand_r(seed) % 2;

	for (int wanted = prefer; wanted >= 0; wanted--) {
		for (unsigned int i = 0; i < LIFE_PAGES; i++) {
			unsigned int page = (start + i) % LIFE_PAGES;

			if (life->shared[page] && (!wanted || life->wanted[page]))
				return page;
		}
	}
	return NONE;
}

/* One page: a word is read from it and another is written to it. */
static void use(struct life *life, long page)
{
	struct access access = {};
	problem wrong = device_try(&life->device, LIFE_IOVA + page * PAGE,
				   life->guest.va + page * PAGE, &access);

	if (wrong) {
		snprintf(life->text, sizeof(life->text), "%s", wrong);
		life->wrong = life->text;
		return;
	}
	life->failed += !access.read + !access.written;
	life->done += access.read + access.written;
}

static void *dma(void *arg)
{
	struct life *life = arg;
	unsigned int seed = 1;

	while (!life->stop && !life->wrong) {
		long page = choose(life, &seed);

		if (page == NONE) {
			nanosleep(&pause_a_little, NULL);
			continue;
		}
		life->page = page;
		/* It may have become private since it was chosen. */
		if (life->shared[page] && !life->rest)
			use(life, page);
		life->page = NONE;
		if (life->rest)
			nanosleep(&pause_a_little, NULL);
	}
	return NULL;
}

problem life_start(struct life *life, struct vmm *vmm, uint8_t *memory, struct pages *pages)
{
	problem wrong;

	memset(life, 0, sizeof(*life));
	life->pages = pages;
	life->page = NONE;
	fill_with_pattern(memory, LIFE_SIZE);
	wrong = guest_start(&life->guest, memory, LIFE_SIZE);
	if (!wrong)
		wrong = device_start(&life->device, vmm, 0);
	if (wrong)
		return wrong;
	for (unsigned int page = 0; page < LIFE_PAGES; page++)
		life->shared[page] = 1;
	if (pthread_create(&life->thread, NULL, dma, life))
		return problem_is("no thread for the device");
	return NULL;
}

problem life_stop(struct life *life)
{
	life->stop = true;
	if (life->thread)
		pthread_join(life->thread, NULL);
	guest_stop(&life->guest);
	device_stop(&life->device);
	return life->wrong;
}

static void set_shared(struct life *life, uint64_t at, bool huge, bool shared)
{
	for (uint64_t page = at / PAGE; page < (at + (huge ? MIB(2) : PAGE)) / PAGE; page++)
		life->shared[page] = shared;
}

/* The device has finished with each page that is not shared now. */
static void wait_for_device(struct life *life)
{
	for (;;) {
		long page = life->page;

		if (page == NONE || life->shared[page])
			return;
		nanosleep(&pause_a_little, NULL);
	}
}

static problem set_state_of(struct life *life, uint64_t at, bool huge, uint32_t state)
{
	return life->pages ? pages_set(life->pages, at, huge ? MIB(2) : PAGE, state) : NULL;
}

/* Out of the IOMMU before it is assigned ... */
problem life_make_private(struct life *life, uint64_t at, bool huge)
{
	problem wrong;

	set_shared(life, at, huge, false);
	wait_for_device(life);
	wrong = set_state_of(life, at, huge, PRIVATE);
	return wrong ? wrong : guest_assign(&life->guest, at, huge);
}

/* ... and back when it is no longer assigned. */
problem life_make_shared(struct life *life, uint64_t at, bool huge)
{
	problem wrong = guest_share(&life->guest, at, huge);

	if (!wrong)
		wrong = set_state_of(life, at, huge, SHARED);
	if (!wrong)
		set_shared(life, at, huge, true);
	return wrong;
}

void life_rest(struct life *life, bool on)
{
	life->rest = on;
	while (on && life->page != NONE && !life->wrong)
		nanosleep(&pause_a_little, NULL);
}

void life_want(struct life *life, uint64_t at, bool on)
{
	life->wanted[at / PAGE] = on;
}

problem life_goes_on(struct life *life, unsigned long transfers)
{
	unsigned long start = life->done + life->failed, last = start;
	struct wait wait = {};

	do {
		unsigned long now = life->done + life->failed;

		if (now - start >= transfers)
			return NULL;
		/* Each transfer is progress. */
		if (now != last)
			wait = (struct wait){};
		last = now;
	} while (!life->wrong && wait_more(&wait, 1000));
	return life->wrong ? life->wrong : problem_is("the device has stopped");
}
