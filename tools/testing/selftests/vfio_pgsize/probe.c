// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe.h"
#include "text.h"

#define TRACE	"/sys/kernel/tracing/"
#define ENABLE	TRACE "events/pgsize_test/call/enable"

problem probe_begin(const char *what)
{
	char event[256];
	problem wrong;

	snprintf(event, sizeof(event), "f:pgsize_test/call %s", what);
	wrong = text_write(TRACE "dynamic_events", event);
	if (!wrong)
		wrong = text_write(TRACE "trace", "");
	return wrong ? wrong : text_write(ENABLE, "1");
}

problem probe_end(void)
{
	problem wrong = text_write(ENABLE, "0");

	return wrong ? wrong : text_write(TRACE "dynamic_events", "");
}

/* The values in a line of the trace. */
static problem read_line(const char *line, const char *const names[], unsigned int nr,
			 uint64_t values[])
{
	for (unsigned int i = 0; i < nr; i++) {
		char field[64];
		const char *at;

		snprintf(field, sizeof(field), " %s=", names[i]);
		at = strstr(line, field);
		if (!at)
			return problem_is("a call without%s: %s", field, line);
		values[i] = strtoull(at + strlen(field), NULL, 0);
	}
	return NULL;
}

problem probe_each(const char *const names[], unsigned int nr, int *count,
		   problem (*each)(const uint64_t *values, void *arg), void *arg)
{
	char *text = text_read(TRACE "trace"), *rest;
	uint64_t values[PROBE_FIELDS];
	problem wrong = NULL;

	if (!text)
		return problem_is(TRACE "trace: %m");
	*count = 0;
	for (char *line = strtok_r(text, "\n", &rest); line && !wrong;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (*line == '#' || !strstr(line, " call: "))
			continue;
		wrong = read_line(line, names, nr, values);
		if (!wrong)
			wrong = each(values, arg);
		(*count)++;
	}
	free(text);
	return wrong;
}
