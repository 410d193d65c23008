/* SPDX-License-Identifier: GPL-2.0 */
/* The module's trace events, through tracefs. */
#ifndef SNP_TRACE_H
#define SNP_TRACE_H

#include "problem.h"

/* Start, and stop. */
problem trace_start(void);
void trace_stop(void);

/* The number of lines with this end. -1: the trace is not readable. */
int trace_count(const char *end);
/* Whether there is exactly one, within some seconds. */
problem trace_has(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
