/* SPDX-License-Identifier: GPL-2.0 */
/* Work that is left to process context. */
#ifndef VFIO_PGSIZE_WORK_H
#define VFIO_PGSIZE_WORK_H

#include <linux/types.h>

/* What the work is: once, before any is queued. It may run more than once at a time. */
void pgsize_work_init(void (*fn)(void));

/* Has the work run. From anywhere. */
void pgsize_work_now(void);
/* The same, within some milliseconds, however often it is called until then. */
void pgsize_work_soon(void);
/* The same, within half a second: when things have calmed down. */
void pgsize_work_later(void);
/* The work is not running any more when it returns. */
void pgsize_work_cancel(void);

#endif
