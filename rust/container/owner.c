// SPDX-License-Identifier: GPL-2.0
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "container/owner.h"

void pgsize_owner_init(struct pgsize_owner *owner)
{
	/* The process, not the thread: it survives an exec() of any thread. */
	owner->pid = get_pid(task_tgid(current));
	get_task_comm(owner->command, current->group_leader);
}

void pgsize_owner_put(struct pgsize_owner *owner)
{
	put_pid(owner->pid);
}

pid_t pgsize_owner_pid(const struct pgsize_owner *owner)
{
	return pid_nr(owner->pid);
}

bool pgsize_owner_command(const struct pgsize_owner *owner, char *command)
{
	struct task_struct *task;

	rcu_read_lock();
	task = pid_task(owner->pid, PIDTYPE_TGID);
	if (task)
		strscpy_pad(command, task->comm, TASK_COMM_LEN);
	else
		memcpy(command, owner->command, TASK_COMM_LEN);
	rcu_read_unlock();
	return task;
}
