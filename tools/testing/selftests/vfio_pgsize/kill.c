// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kill.h"
#include "wait.h"

bool kill_when_ready(int ready)
{
	return write(ready, "r", 1) == 1;
}

static problem wait_and_kill(pid_t child, int ready, unsigned int after)
{
	struct wait wait = {};
	int status;
	char byte;

	/* Reads nothing if the child has ended. */
	if (read(ready, &byte, 1) == 1)
		usleep(after);
	if (kill(child, SIGKILL))
		return problem_is("the child cannot be killed: %m");
	while (waitpid(child, &status, WNOHANG) != child)
		if (!wait_more(&wait, MOMENT))
			return problem_is("the child does not end after SIGKILL");
	if (!WIFSIGNALED(status))
		return problem_is("the child ended by itself, status %#x", status);
	return NULL;
}

problem kill_at_work(void (*work)(void *arg, int ready), void *arg, unsigned int after)
{
	problem wrong;
	int ready[2];
	pid_t child;

	if (pipe2(ready, O_CLOEXEC))
		return problem_is("no pipe: %m");
	child = fork();
	if (child < 0)
		return problem_is("no child: %m");
	if (!child) {
		work(arg, ready[1]);
		_exit(1);
	}
	close(ready[1]);
	wrong = wait_and_kill(child, ready[0], after);
	close(ready[0]);
	return wrong;
}
