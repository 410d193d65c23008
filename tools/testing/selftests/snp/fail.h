/* SPDX-License-Identifier: GPL-2.0 */
/* No memory in the hook: fault injection of the debug kernel. Load the module without a reserve. */
#ifndef SNP_FAIL_H
#define SNP_FAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest.h"
#include "problem.h"

/* Whether the kernel can inject faults. */
bool fail_is_there(void);
problem fail_prepare(void);
/* Whether allocations that can sleep fail, too. */
problem fail_patient(bool on);

/* A thread whose page allocations fail: by default those that cannot sleep. */
struct fail {
	int fd;
};

problem fail_thread(struct fail *fail, pid_t thread);
problem fail_here(struct fail *fail);
/* The thread that called fail_here(). */
problem fail_no_more(struct fail *fail);

/* One 4K page is assigned while allocations that cannot sleep fail. */
problem fail_assign(struct guest *guest, uint64_t gpa);

#endif
