/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The hook on the functions that change the RMP, and the lock that the hook and
 * everybody else take to edit leaves that are followed.
 */
#ifndef VFIO_PGSIZE_HOOK_H
#define VFIO_PGSIZE_HOOK_H

#include <linux/types.h>

/*
 * May sleep. The RMP can be read then. -EOPNOTSUPP: this is no SNP host, SNP is off, or its
 * kernel can not be hooked.
 */
int pgsize_hook_register(void);
/* May sleep. No handler runs any more when it returns. */
void pgsize_hook_unregister(void);

/*
 * Nobody follows any more: it is registered still, and pgsize_hook_expire() comes some
 * seconds later; and somebody does again.
 */
void pgsize_hook_idle(void);
/* May sleep. */
void pgsize_hook_resume(void);

/* pgsize_hook_expire() is not running any more when it returns, and does not come. May sleep. */
void pgsize_hook_exit(void);

/* How many follow, as was said last, and how often it was registered: debugfs shows these. */
extern u32 pgsize_followers, pgsize_hooked;

/* Says how many follow. One at a time. */
void pgsize_hook_followers(u32 number);

/* Calls that went by unseen since it was registered, or resumed. */
u64 pgsize_hook_missed(void);

/* If a call went by unseen of which the work does not know, has it run. From anywhere. */
void pgsize_missed_check(void);
/*
 * Whether one did, since this was last asked, or SNP was switched off: then the VMMs are
 * to be told. Or whether it is time to look again: for what such calls, and calls before the
 * hook, did late, or for SNP is on again. May sleep. Not while the hook is being registered.
 */
enum pgsize_recheck {
	PGSIZE_RECHECK_NONE,
	PGSIZE_RECHECK_SILENT,
	PGSIZE_RECHECK_NOTIFY,
};

enum pgsize_recheck pgsize_missed_take(void);

/* In Rust. They run with preemption off: see smash.rs. */
u64 pgsize_generation(u64 pfn);
u64 pgsize_smash_begin(u64 pfn);
void pgsize_smash_end(u64 pfn, u64 began, bool refused);
void pgsize_became_whole(u64 pfn, u64 began);
void pgsize_became_shared(u64 pfn);
/* Not atomic: see map.rs. */
void pgsize_hook_expire(void);

#endif
