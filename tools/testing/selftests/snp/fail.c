// SPDX-License-Identifier: GPL-2.0
#include <unistd.h>

#include "fail.h"
#include "text.h"

#define FAIL	"/sys/kernel/debug/fail_page_alloc/"

bool fail_is_there(void)
{
	return !access(FAIL, F_OK);
}

problem fail_prepare(void)
{
	problem wrong = text_write(FAIL "task-filter", "Y");

	if (!wrong)
		wrong = text_write(FAIL "ignore-gfp-wait", "Y");
	if (!wrong)
		wrong = text_write(FAIL "min-order", "0");
	if (!wrong)
		wrong = text_write(FAIL "verbose", "0");
	if (!wrong)
		wrong = text_write(FAIL "times", "-1");
	return wrong ? wrong : text_write(FAIL "probability", "100");
}

/* Allocations of this task that can not sleep fail, or succeed again. */
static problem fail(bool on)
{
	return text_write("/proc/thread-self/make-it-fail", on ? "1" : "0");
}

problem fail_assign(struct guest *guest, uint64_t gpa)
{
	problem wrong = fail(true), at_end;

	if (!wrong)
		wrong = guest_assign(guest, gpa, false);
	at_end = fail(false);
	return wrong ? wrong : at_end;
}
