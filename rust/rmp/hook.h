/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The probes on the functions that change the RMP, and the lock for editing leaves that
 * follow the RMP.
 */
#ifndef VFIO_PGSIZE_HOOK_H
#define VFIO_PGSIZE_HOOK_H

#include <linux/types.h>

/*
 * Registers the probes and enables RMP lookups. May sleep. -EOPNOTSUPP: this is not an SNP
 * host, SNP is off, or the kernel cannot be probed.
 */
int pgsize_hook_register(void);
/* Why the probes cannot be registered now, as far as is known; NULL: they can. */
const char *pgsize_hook_obstacle(void);
/* Unregisters the probes. May sleep. No handler runs after it returns. */
void pgsize_hook_unregister(void);

/*
 * Nobody follows any more: the probes stay registered, and pgsize_hook_expire() runs some
 * seconds later. And: somebody follows again.
 */
void pgsize_hook_idle(void);
/* May sleep. */
void pgsize_hook_resume(void);

/* After it returns pgsize_hook_expire() does not run. May sleep. */
void pgsize_hook_exit(void);

/* The number of followers, and of registrations, for debugfs. */
extern u32 pgsize_followers, pgsize_hooked;

/* Sets the number of followers. Callers are serialized. */
void pgsize_hook_followers(u32 number);

/* Calls that were missed since registration or resumption. */
u64 pgsize_hook_missed(void);

/* Queues the work if it does not know of a missed call. Any context. */
void pgsize_missed_check(void);
/*
 * Reports and clears whether a call was missed or SNP was disabled, in which case the VMMs
 * are notified; or whether the RMP has to be read again, because missed or earlier calls may
 * have taken effect late, or SNP is on again. May sleep. Not during registration.
 */
enum pgsize_recheck {
	PGSIZE_RECHECK_NONE,
	PGSIZE_RECHECK_SILENT,
	PGSIZE_RECHECK_NOTIFY,
};

enum pgsize_recheck pgsize_missed_take(void);

/* Implemented in Rust, called with preemption off: see smash.rs. */
u64 pgsize_generation(u64 pfn);
u64 pgsize_smash_begin(u64 pfn);
void pgsize_smash_end(u64 pfn, u64 began, bool refused);
void pgsize_became_whole(u64 pfn, u64 began);
void pgsize_became_shared(u64 pfn);
/* Not atomic: see map.rs. */
void pgsize_hook_expire(void);

#endif
