/* SPDX-License-Identifier: GPL-2.0 */
/* The process that a container belongs to. In C, because kernel::pid lacks it. */
#ifndef VFIO_PGSIZE_OWNER_H
#define VFIO_PGSIZE_OWNER_H

#include <linux/sched.h>
#include <linux/types.h>

struct pid;

struct pgsize_owner {
	struct pid *pid;
	char command[TASK_COMM_LEN];	/* its name when it set the IOMMU */
};

/* The current process. */
void pgsize_owner_init(struct pgsize_owner *owner);
void pgsize_owner_put(struct pgsize_owner *owner);

/* Its PID in the initial namespace. */
pid_t pgsize_owner_pid(const struct pgsize_owner *owner);

/*
 * Its name now, or when it was last known: TASK_COMM_LEN bytes. Returns whether the process
 * still exists. Does not sleep.
 */
bool pgsize_owner_command(const struct pgsize_owner *owner, char *command);

#endif
