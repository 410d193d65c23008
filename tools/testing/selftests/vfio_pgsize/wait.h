/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Waits for an expected event. The duration depends on the host, which may be busy, so a wait
 * ends as soon as the event happens, and gives up late:
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

/* Seconds before a wait is given up. */
#define PATIENCE	300

/* Microseconds between two checks. */
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

/* Sleeps until the next check; false: given up. A zeroed struct begins now. */
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
