/* SPDX-License-Identifier: GPL-2.0 */
/* No memory in the hook: fault injection of the debug kernel. The module is to keep no reserve. */
#ifndef SNP_FAIL_H
#define SNP_FAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest.h"
#include "problem.h"

/* Does the kernel inject faults? */
bool fail_is_there(void);
problem fail_prepare(void);
/* Allocations that can sleep are to fail, too; or no longer. */
problem fail_patient(bool on);

/* A thread whose allocations of pages fail: those that cannot sleep, unless said otherwise. */
struct fail {
	int fd;
};

problem fail_thread(struct fail *fail, pid_t thread);
problem fail_here(struct fail *fail);
/* It is the thread of fail_here(). */
problem fail_no_more(struct fail *fail);

/* One page of 4K is assigned while allocations that cannot sleep fail. */
problem fail_assign(struct guest *guest, uint64_t gpa);

#endif
