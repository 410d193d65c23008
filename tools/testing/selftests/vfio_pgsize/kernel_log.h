/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel log from some point on: IOMMU faults, and reports of bugs. */
#ifndef VFIO_PGSIZE_KERNEL_LOG_H
#define VFIO_PGSIZE_KERNEL_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "problem.h"

struct kernel_log {
	int fd;
	int faults;		/* IO_PAGE_FAULT events of the IOMMU */
	uint64_t fault_iova;	/* address of the last one */
	int rmp_faults;		/* RMP_PAGE_FAULT events */
	char rmp_device[13];	/* the last one: the device ... */
	uint64_t rmp_iova;	/* ... and the address */
	const char *wanted;	/* if set: a text ... */
	int seen;		/* ... and the number of records that have it */
	int memlock_warnings;	/* messages that a process exceeded RLIMIT_MEMLOCK */
	char bug[160];		/* the first warning or report of a bug */
};

/* Start here. */
problem kernel_log_start(struct kernel_log *log);
/* Read the new lines. */
void kernel_log_read(struct kernel_log *log);
/* Wait two seconds for more faults than these; return whether there were any. */
bool kernel_log_wait_for_fault(struct kernel_log *log, int than);
bool kernel_log_wait_for_rmp_fault(struct kernel_log *log, int than);
void kernel_log_stop(struct kernel_log *log);
/* Stops. The log has neither a bug nor an IOMMU fault. */
problem kernel_log_end(struct kernel_log *log);

#endif
