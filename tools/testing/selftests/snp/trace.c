// SPDX-License-Identifier: GPL-2.0
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "trace.h"
#include "wait.h"

#define TRACE	"/sys/kernel/tracing/"
#define ENABLE	TRACE "events/vfio_pgsize/enable"

problem trace_start(void)
{
	problem wrong = text_write(TRACE "trace", "");

	return wrong ? wrong : text_write(ENABLE, "1");
}

void trace_stop(void)
{
	text_write(ENABLE, "0");
}

int trace_count(const char *end)
{
	char *text = text_read(TRACE "trace"), *rest = text, *line;
	size_t length = strlen(end);
	int count = 0;

	if (!text)
		return -1;
	while ((line = strsep(&rest, "\n")))
		count += strlen(line) >= length && !strcmp(line + strlen(line) - length, end);
	free(text);
	return count;
}

problem trace_has(const char *format, ...)
{
	struct wait wait = {};
	char end[256];
	va_list ap;
	int count;

	va_start(ap, format);
	vsnprintf(end, sizeof(end), format, ap);
	va_end(ap);
	do {
		count = trace_count(end);
	} while (!count && wait_more(&wait, 10 * MOMENT));
	return count == 1 ? NULL : problem_is("the trace has %d lines that end with \"%s\"", count,
					      end);
}
