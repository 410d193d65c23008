// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "module.h"
#include "wait.h"

/* The last load parameters, for the next tests. */
#define MARK	"/tmp/vfio_pgsize.parameters"

bool module_is_loaded(void)
{
	return access("/sys/module/vfio_pgsize", F_OK) == 0;
}

problem module_load(const char *parameters)
{
	char command[256];
	FILE *mark;

	snprintf(command, sizeof(command), ". /lib/vm.sh && load_pgsize %s", parameters);
	if (system(command) || !module_is_loaded())
		return problem_is("vfio_pgsize does not load (%s)", command);
	mark = fopen(MARK, "w");
	if (!mark || fputs(parameters, mark) < 0)
		return problem_is(MARK ": %m");
	fclose(mark);
	return NULL;
}

int module_unload(void)
{
	return syscall(SYS_delete_module, "vfio_pgsize", O_NONBLOCK) ? -errno : 0;
}

/* A container that was just closed may be released a moment later. */
static int unload_soon(void)
{
	struct wait wait = {};
	int ret;

	do {
		ret = module_unload();
	} while (ret && ret != -ENOENT && wait_more(&wait, MOMENT));
	return ret;
}

problem module_require(const char *parameters)
{
	char loaded[256] = "";
	problem wrong;
	FILE *mark;

	if (module_is_loaded()) {
		mark = fopen(MARK, "r");
		if (mark) {
			if (!fgets(loaded, sizeof(loaded), mark))
				loaded[0] = '\0';
			fclose(mark);
		}
		if (!strcmp(loaded, parameters))
			return NULL;
	}
	wrong = module_require_none();
	return wrong ? wrong : module_load(parameters);
}

problem module_require_none(void)
{
	int ret = module_is_loaded() ? unload_soon() : 0;

	return ret ? problem_is("vfio_pgsize does not unload: %s", strerror(-ret)) : NULL;
}

problem module_serve(const char *parameters)
{
	return parameters ? module_require(parameters) : module_require_none();
}
