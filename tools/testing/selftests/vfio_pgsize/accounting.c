// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>

#include "accounting.h"
#include "units.h"
#include "wait.h"

/* The number after `name` at the start of a line of `path`. */
static problem read_number(const char *path, const char *name, long *number)
{
	size_t length = strlen(name);
	FILE *file = fopen(path, "r");
	char line[256];
	int found = 0;

	if (!file)
		return problem_is("%s: %m", path);
	while (!found && fgets(line, sizeof(line), file))
		found = !strncmp(line, name, length) && sscanf(line + length, "%ld", number) == 1;
	fclose(file);
	return found ? NULL : problem_is("%s does not tell %s", path, name);
}

problem account_read(struct account *account)
{
	/* Any write folds what each CPU has counted into the sums. */
	int refresh = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
	long kib, acquired, released;
	problem wrong;

	if (refresh < 0 || write(refresh, "1", 1) < 0)
		return problem_is("/proc/sys/vm/stat_refresh: %m");
	close(refresh);
	wrong = read_number("/proc/self/status", "VmLck:", &kib);
	if (!wrong)
		wrong = read_number("/proc/vmstat", "nr_foll_pin_acquired ", &acquired);
	if (!wrong)
		wrong = read_number("/proc/vmstat", "nr_foll_pin_released ", &released);
	if (!wrong)
		wrong = read_number("/proc/vmstat", "nr_iommu_pages ", &account->tables);
	if (wrong)
		return wrong;
	account->locked = kib / 4;
	account->pinned = acquired - released;
	return NULL;
}

problem account_rose(const struct account *before, long locked, long pinned)
{
	struct account now;
	problem wrong = account_read(&now);

	if (wrong)
		return wrong;
	if (now.locked - before->locked != locked)
		return problem_is("%ld more pages are locked, expected %ld",
				  now.locked - before->locked, locked);
	if (now.pinned - before->pinned != pinned)
		return problem_is("%ld more pages are pinned, expected %ld",
				  now.pinned - before->pinned, pinned);
	return NULL;
}

problem account_settles(const struct account *before)
{
	struct wait wait = {};
	problem wrong;

	do {
		wrong = account_rose(before, 0, 0);
	} while (wrong && wait_more(&wait, MOMENT));
	return wrong;
}

problem account_limit(long pages)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	struct rlimit limit = { pages * PAGE, pages * PAGE };

	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		return problem_is("RLIMIT_MEMLOCK: %m");
	if (syscall(SYS_capget, &header, data))
		return problem_is("capget: %m");
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	return syscall(SYS_capset, &header, data) ? problem_is("capset: %m") : NULL;
}
