// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fail.h"
#include "text.h"

#define FAIL	"/sys/kernel/debug/fail_page_alloc/"
#define FAIL_SLAB	"/sys/kernel/debug/failslab/"

bool fail_is_there(void)
{
	return !access(FAIL, F_OK);
}

problem fail_prepare(void)
{
	problem wrong = text_write(FAIL "task-filter", "Y");

	if (!wrong)
		wrong = fail_patient(false);
	if (!wrong)
		wrong = text_write(FAIL "min-order", "0");
	if (!wrong)
		wrong = text_write(FAIL "verbose", "0");
	if (!wrong)
		wrong = text_write(FAIL "times", "-1");
	return wrong ? wrong : text_write(FAIL "probability", "100");
}

problem fail_patient(bool on)
{
	problem wrong = text_write(FAIL "ignore-gfp-wait", on ? "N" : "Y");

	/* Small objects, too. */
	if (!wrong)
		wrong = text_write(FAIL_SLAB "task-filter", "Y");
	if (!wrong)
		wrong = text_write(FAIL_SLAB "ignore-gfp-wait", "N");
	if (!wrong)
		wrong = text_write(FAIL_SLAB "verbose", "0");
	if (!wrong)
		wrong = text_write(FAIL_SLAB "times", "-1");
	return wrong ? wrong : text_write(FAIL_SLAB "probability", on ? "100" : "0");
}

problem fail_thread(struct fail *fail, pid_t thread)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/make-it-fail", thread);
	fail->fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fail->fd < 0)
		return problem_is("%s: %m", path);
	if (write(fail->fd, "1", 1) != 1)
		return problem_is("%s: %m", path);
	return NULL;
}

problem fail_here(struct fail *fail)
{
	return fail_thread(fail, gettid());
}

problem fail_no_more(struct fail *fail)
{
	/* The file is already open: nothing is allocated. */
	bool done = write(fail->fd, "0", 1) == 1;

	close(fail->fd);
	return done ? NULL : problem_is("a thread goes on failing: %m");
}

problem fail_assign(struct guest *guest, uint64_t gpa)
{
	problem wrong, at_end;
	struct fail fail;

	wrong = fail_here(&fail);
	if (wrong)
		return wrong;
	wrong = guest_assign(guest, gpa, false);
	at_end = fail_no_more(&fail);
	return wrong ? wrong : at_end;
}
