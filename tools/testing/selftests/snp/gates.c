// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "gates.h"
#include "wait.h"

#define GATES	"/sys/module/vfio_pgsize/parameters/gates"

static const char *const names[PGSIZE_STEPS] = {
	[PGSIZE_STEP_MAP_CLAIMED] = "map claimed",
	[PGSIZE_STEP_MAP_BEGINS] = "map begins",
	[PGSIZE_STEP_MAP_WATCHED] = "watched",
	[PGSIZE_STEP_MAP_LOOKED] = "RMP looked at",
	[PGSIZE_STEP_MAP_MAPPED] = "mapped",
	[PGSIZE_STEP_MAP_PUBLISHES] = "to be published",
	[PGSIZE_STEP_MAP_HIT] = "found hit",
	[PGSIZE_STEP_MAP_PUBLISHED] = "published",
	[PGSIZE_STEP_MAP_INSERTED] = "inserted",
	[PGSIZE_STEP_STATE_PINS] = "quick changes are to be pinned",
	[PGSIZE_STEP_CHARGES] = "mmap_lock held to charge",
	[PGSIZE_STEP_UNMAP_BEGINS] = "unmap begins",
	[PGSIZE_STEP_UNMAP_REMOVED] = "removed",
	[PGSIZE_STEP_UNMAP_HELD] = "hook held off",
	[PGSIZE_STEP_UNMAP_OUT] = "leaves out",
	[PGSIZE_STEP_UNMAP_FLUSHED] = "flushed",
	[PGSIZE_STEP_UNMAP_UNPINNED] = "unpinned",
	[PGSIZE_STEP_UNMAP_UNWATCHED] = "unwatched",
	[PGSIZE_STEP_MERGE_BEGINS] = "merge begins",
	[PGSIZE_STEP_MERGE_LOOKED] = "RMP looked at, to merge",
	[PGSIZE_STEP_POLICY_WATCHED] = "ready to be followed",
	[PGSIZE_STEP_SMASH_BEGINS] = "call begins",
	[PGSIZE_STEP_SMASH_NOTED] = "hook is through",
	[PGSIZE_STEP_SMASH_CHANGED] = "RMP changed",
	[PGSIZE_STEP_SMASH_DONE] = "call is over",
	[PGSIZE_STEP_SMASH_LOCKED] = "hook has the lock",
	[PGSIZE_STEP_CALL_ENTERS] = "ioctl enters",
	[PGSIZE_STEP_CALL_LEAVES] = "ioctl leaves",
};

const char *gates_name(int step)
{
	return names[step];
}

void gates_add(struct gates *gates, int waiter, int awaited)
{
	gates->numbers[gates->nr++] = waiter;
	gates->numbers[gates->nr++] = awaited;
}

problem gates_set(const struct gates *gates)
{
	char text[128] = "";
	int fd = open(GATES, O_WRONLY | O_CLOEXEC), length = 0;
	problem wrong = NULL;

	/*
	 * A thread may be about to wait with mmap_lock.  The vDSO, which tells the time, has no
	 * pages yet in a process that was forked, and they come in only with that lock.
	 */
	wait_now();
	for (int i = 0; i < gates->nr; i++)
		length += sprintf(text + length, "%s%d", i ? "," : "", gates->numbers[i]);
	if (fd < 0 || write(fd, text, length + 1) < 0)
		wrong = problem_is(GATES ": %m (is this the test build?)");
	close(fd);
	return wrong;
}

problem gates_see(struct seen *seen)
{
	FILE *file = fopen(GATES, "r");
	problem wrong = NULL;

	if (!file)
		return problem_is(GATES ": %m");
	for (int i = 0; !wrong && i < PGSIZE_STEPS; i++)
		if (fscanf(file, "%u/%u", &seen->reached[i], &seen->passed[i]) != 2)
			wrong = problem_is(GATES ": no step %d", i);
	if (!wrong && fscanf(file, "%lx", &seen->given_up) != 1)
		wrong = problem_is(GATES ": does not end");
	fclose(file);
	return wrong;
}

problem gates_worked(void)
{
	struct seen seen;
	problem wrong = gates_see(&seen);

	if (!wrong && seen.given_up)
		return problem_is("waiting was given up: steps %#lx", seen.given_up);
	return wrong;
}

problem gates_wait(int step)
{
	struct wait wait = {};
	struct seen seen = {};
	problem wrong;

	do {
		wrong = gates_see(&seen);
	} while (!wrong && !seen.reached[step] && wait_more(&wait, 100));
	if (!wrong && !seen.reached[step])
		return problem_is("nobody comes to \"%s\"", names[step]);
	return wrong;
}
