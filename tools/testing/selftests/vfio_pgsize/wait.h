/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Waits for what is to come. How long that takes is up to the host, which may be
 * busy, so a wait ends as soon as it is there, and gives up late:
 *
 *	struct wait wait = {};
 *
 *	do {
 *		wrong = what_is_to_come();
 *	} while (wrong && wait_more(&wait, MOMENT));
 */
#ifndef VFIO_PGSIZE_WAIT_H
#define VFIO_PGSIZE_WAIT_H

#include <stdbool.h>
#include <time.h>
#include <unistd.h>

/* Seconds until what is waited for does not come any more. */
#define PATIENCE	300

/* Microseconds between two looks. */
#define MOMENT		10000

struct wait {
	time_t begun;
};

static inline time_t wait_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + 1;	/* never 0 */
}

/* Sleeps until the next look; false: it is given up. What is new, all 0, begins now. */
static inline bool wait_more(struct wait *wait, useconds_t pause)
{
	if (!wait->begun)
		wait->begun = wait_now();
	if (wait_now() - wait->begun > PATIENCE)
		return false;
	usleep(pause);
	return true;
}

#endif
