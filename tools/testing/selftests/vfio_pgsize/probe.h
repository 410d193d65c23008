/* SPDX-License-Identifier: GPL-2.0 */
/* A probe event: calls of a kernel function, with named arguments (BTF). */
#ifndef VFIO_PGSIZE_PROBE_H
#define VFIO_PGSIZE_PROBE_H

#include <stdint.h>

#include "problem.h"

/* Record each call from now on; `what` is a function and its fields, as in dynamic_events. */
problem probe_begin(const char *what);
problem probe_end(void);

/*
 * Calls `each` with the values of the `nr` fields `names` of each call (at most PROBE_FIELDS),
 * and counts the calls; ends with the first problem.
 */
#define PROBE_FIELDS	4
problem probe_each(const char *const names[], unsigned int nr, int *count,
		   problem (*each)(const uint64_t *values, void *arg), void *arg);

#endif
