/* SPDX-License-Identifier: GPL-2.0 */
/* The debug kernel's fault injection: one allocation, or copy, of this thread fails. */
#ifndef VFIO_PGSIZE_FAIL_NTH_H
#define VFIO_PGSIZE_FAIL_NTH_H

#include <stdbool.h>

#include "problem.h"

/* The file that selects the failing allocation, to be closed; all kinds of allocations count. */
problem fail_nth_open(int *file);
/* The n-th from now on fails. */
problem fail_nth(int file, int n);
/* Whether the failure happened. If not, cancel it. */
bool fail_nth_happened(int file);

#endif
