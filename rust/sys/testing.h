/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Additions of the test build (make ... VFIO_PGSIZE_TEST=1): steps at which threads can be
 * made to wait for each other, and groups that do not share a domain. Selftests include
 * this header too.
 */
#ifndef VFIO_PGSIZE_TESTING_H
#define VFIO_PGSIZE_TESTING_H

/*
 * The steps, in the order in which each path passes them. Map, unmap, the worker, SET_STATE and
 * SET_POLICY pass theirs holding only mutexes, and may sleep there; a smash passes its own
 * with preemption off, and an ioctl must not sleep at its own. No spinlock is held at a step
 * unless noted.
 */
enum {
	/* the container has a claim and is not locked; also in SET_STATE */
	PGSIZE_STEP_MAP_CLAIMED,
	PGSIZE_STEP_MAP_BEGINS,		/* pinned, in no table yet */
	PGSIZE_STEP_MAP_WATCHED,	/* in the rmap, as pending */
	PGSIZE_STEP_MAP_LOOKED,		/* the RMP was read */
	PGSIZE_STEP_MAP_MAPPED,		/* the leaves are mapped */
	PGSIZE_STEP_MAP_PUBLISHES,	/* still pending */
	PGSIZE_STEP_MAP_HIT,		/* hit in the meantime, and the RMP not read again yet */
	PGSIZE_STEP_MAP_PUBLISHED,	/* active: the hook acts on it */
	PGSIZE_STEP_MAP_INSERTED,	/* the container has it as mapped */

	/* SET_STATE is about to pin the pages of quick changes; the container is not locked. */
	PGSIZE_STEP_STATE_PINS,
	/* A process is being charged: its mmap_lock is held for writing, and no container's. */
	PGSIZE_STEP_CHARGES,

	PGSIZE_STEP_UNMAP_BEGINS,
	PGSIZE_STEP_UNMAP_REMOVED,	/* removed from the container */
	PGSIZE_STEP_UNMAP_HELD,		/* the hook no longer acts on it */
	PGSIZE_STEP_UNMAP_OUT,		/* the leaves are unmapped */
	PGSIZE_STEP_UNMAP_FLUSHED,	/* and flushed from the IOTLB */
	PGSIZE_STEP_UNMAP_UNPINNED,
	PGSIZE_STEP_UNMAP_UNWATCHED,	/* removed from the rmap */

	PGSIZE_STEP_MERGE_BEGINS,	/* the worker has found a small block that may be whole */
	PGSIZE_STEP_MERGE_LOOKED,	/* it has read the RMP */

	PGSIZE_STEP_POLICY_WATCHED,	/* SET_POLICY has made a watch ready */

	PGSIZE_STEP_SMASH_BEGINS,	/* the call begins; the hook has done nothing yet */
	PGSIZE_STEP_SMASH_NOTED,	/* the hook is done; the RMP is unchanged */
	PGSIZE_STEP_SMASH_CHANGED,	/* the RMP is changed; the call is still in transit */
	PGSIZE_STEP_SMASH_DONE,		/* the call is over */
	PGSIZE_STEP_SMASH_LOCKED,	/* after it began: the hook holds the rmap lock */

	/* an ioctl has no reference to the module yet, or has dropped it */
	PGSIZE_STEP_CALL_ENTERS,
	PGSIZE_STEP_CALL_LEAVES,
	PGSIZE_STEPS,
};

/*
 * The parameter `gates`, in sysfs. Write: numbers separated by commas, two for each gate.
 * The first thread at the first step waits until a thread is at the second. A write clears
 * all earlier gates and their records. Threads go on waiting, for the same steps; an empty
 * write also ends each wait.
 *
 * Read: a word for each step, in order, "reached/passed". Each is the ordinal of the event
 * among all events at steps since then; 0: it has not happened. Then a bitmap of steps at
 * which a wait was given up. Only the first thread at a step counts.
 */
#define PGSIZE_GATES	4

/* The parameter `busy_patience`: milliseconds before a busy wait gives up. */

/*
 * The parameter `longest`: the longest time that the rmap lock was held with interrupts
 * off, in ticks of the time-stamp counter. A write resets it.
 */

#ifdef __KERNEL__
#include <linux/types.h>

void pgsize_step(unsigned int step);
/* The hook was called in a panic; logs it. */
void pgsize_hooked_in_panic(void);
/* The parameter `own_domains`. */
bool pgsize_own_domains(void);
/* An ioctl begins, and ends. */
void pgsize_call_enters(void);
void pgsize_call_leaves(void);
/* Warns if there is an ioctl in the module's code. */
void pgsize_no_calls(void);
/* The parameter `no_dirty_bits`. */
bool pgsize_no_dirty_bits(void);
/* The rmap lock is taken, or about to be released. */
void pgsize_lock_taken(void);
void pgsize_lock_held(void);
#endif

#endif
