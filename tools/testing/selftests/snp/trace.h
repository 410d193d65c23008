/* SPDX-License-Identifier: GPL-2.0 */
/* The module's trace events, by tracefs. */
#ifndef SNP_TRACE_H
#define SNP_TRACE_H

#include "problem.h"

/* From now on, and no longer. */
problem trace_start(void);
void trace_stop(void);

/* How many lines end like this? -1: the trace cannot be read. */
int trace_count(const char *end);
/* Is there just one, within some seconds? */
problem trace_has(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
