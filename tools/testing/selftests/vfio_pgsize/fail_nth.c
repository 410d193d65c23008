// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fail_nth.h"
#include "text.h"

#define DEBUGFS	"/sys/kernel/debug/"

problem fail_nth_open(int *file)
{
	static const char *const settings[][2] = {
		{ DEBUGFS "failslab/ignore-gfp-wait", "N" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" },
		{ DEBUGFS "fail_page_alloc/min-order", "0" },
		{ DEBUGFS "failslab/verbose", "0" },
		{ DEBUGFS "fail_page_alloc/verbose", "0" },
		{ DEBUGFS "fail_usercopy/verbose", "0" },
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		problem wrong = text_write(settings[i][0], settings[i][1]);

		if (wrong)
			return wrong;
	}
	*file = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return *file < 0 ? problem_is("fail-nth: %m") : NULL;
}

problem fail_nth(int file, int n)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%d", n);

	return pwrite(file, text, length, 0) == length ? NULL : problem_is("fail-nth: %m");
}

bool fail_nth_happened(int file)
{
	char text[16] = "";
	ssize_t length = pread(file, text, sizeof(text) - 1, 0);

	/* These copy, too, and may be what fails. */
	if (length > 0 && atoi(text))
		pwrite(file, "0", 1, 0);
	return length > 0 && !atoi(text);
}
