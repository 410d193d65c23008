/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's log from some moment on: faults of the IOMMU, and reports of bugs. */
#ifndef VFIO_PGSIZE_KERNEL_LOG_H
#define VFIO_PGSIZE_KERNEL_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "problem.h"

struct kernel_log {
	int fd;
	int faults;		/* IO_PAGE_FAULT events of the IOMMU */
	uint64_t fault_iova;	/* where the last of them was */
	int rmp_faults;		/* RMP_PAGE_FAULT events */
	char rmp_device[13];	/* the last of them: which device ... */
	uint64_t rmp_iova;	/* ... and at which address */
	int memlock_warnings;	/* that a process wanted more than RLIMIT_MEMLOCK */
	char bug[160];		/* the first warning or report of a bug */
};

/* From now on. */
problem kernel_log_start(struct kernel_log *log);
/* Take in what was logged since. */
void kernel_log_read(struct kernel_log *log);
/* Wait two seconds for more faults than these to be logged: were there any? */
bool kernel_log_wait_for_fault(struct kernel_log *log, int than);
bool kernel_log_wait_for_rmp_fault(struct kernel_log *log, int than);
void kernel_log_stop(struct kernel_log *log);

#endif
