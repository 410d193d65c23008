/* SPDX-License-Identifier: GPL-2.0 */
/* Work that is left to process context, and the look for calls that went by unseen. */
#ifndef VFIO_PGSIZE_WORK_H
#define VFIO_PGSIZE_WORK_H

#include <linux/types.h>

/* Has pgsize_work() run. From anywhere. */
void pgsize_work_now(void);
/* The same, within some milliseconds, however often it is called until then. */
void pgsize_work_soon(void);
/* The same, within half a second: when things have calmed down. */
void pgsize_work_later(void);
/* Has pgsize_hook_expire() run in five seconds, and not before. */
void pgsize_idle_start(void);
/* None of these is running any more when it returns. */
void pgsize_work_cancel(void);

/* While anybody follows: looks once a second. */
void pgsize_look_start(void);
void pgsize_look_stop(void);

/* How many calls that went by unseen the work knows of. */
u64 pgsize_missed_known(void);
/* If a call went by unseen of which the work does not know, has it run. From anywhere. */
void pgsize_missed_look(void);
/*
 * Whether one did, since this was last asked, or SNP was switched off: then the VMMs are
 * to be told. Or whether it is time to look again: for what such calls, and calls before the
 * hook, did late, or for SNP is on again. May sleep. Not while the hook is being registered.
 */
enum pgsize_look {
	PGSIZE_LOOK_NOT,
	PGSIZE_LOOK_AGAIN,
	PGSIZE_LOOK_TELL,
};

enum pgsize_look pgsize_missed_take(void);

/* In Rust. */
void pgsize_work(void);

#endif
