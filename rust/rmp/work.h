/* SPDX-License-Identifier: GPL-2.0 */
/* Work that needs process context. */
#ifndef VFIO_PGSIZE_WORK_H
#define VFIO_PGSIZE_WORK_H

#include <linux/types.h>

/* Sets the work function, once, before any is queued. It may run concurrently with itself. */
void pgsize_work_init(void (*fn)(void));

/* Queues the work. Any context. */
void pgsize_work_now(void);
/* Queues the work in some milliseconds; calls in between have no effect. */
void pgsize_work_soon(void);
/* Queues the work in half a second, when conversions have calmed down. */
void pgsize_work_later(void);
/* After it returns the work does not run. */
void pgsize_work_cancel(void);

#endif
