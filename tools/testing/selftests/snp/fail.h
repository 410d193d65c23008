/* SPDX-License-Identifier: GPL-2.0 */
/* No memory in the hook: fault injection of the debug kernel. The module is to keep no reserve. */
#ifndef SNP_FAIL_H
#define SNP_FAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "guest.h"
#include "problem.h"

/* Does the kernel inject faults? */
bool fail_is_there(void);
problem fail_prepare(void);
/* One page of 4K is assigned while allocations that can not sleep fail. */
problem fail_assign(struct guest *guest, uint64_t gpa);

#endif
