/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the test build has in addition (make ... VFIO_PGSIZE_TEST=1): points at
 * which threads can be made to wait for one another, and groups that do not
 * share a domain. Selftests read this header, too.
 */
#ifndef VFIO_PGSIZE_TESTING_H
#define VFIO_PGSIZE_TESTING_H

/*
 * The points, in the order in which each of the five passes them. Map, unmap, the
 * worker and SET_POLICY pass theirs with nothing but mutexes held and may sleep there; a smash
 * passes its own with preemption off. No spinlock is held at any of them but where it says so.
 */
enum {
	/* The container knows that it is to come, and is not locked. By SET_STATE, too. */
	PGSIZE_STEP_MAP_CLAIMED,
	PGSIZE_STEP_MAP_BEGINS,		/* pinned, in no table yet */
	PGSIZE_STEP_MAP_WATCHED,	/* the hook knows it, as pending */
	PGSIZE_STEP_MAP_LOOKED,		/* the RMP was looked at */
	PGSIZE_STEP_MAP_MAPPED,		/* the leaves are there */
	PGSIZE_STEP_MAP_PUBLISHES,	/* it is pending still */
	PGSIZE_STEP_MAP_HIT,		/* it was hit meanwhile, and not looked at again yet */
	PGSIZE_STEP_MAP_PUBLISHED,	/* it is the hook's */
	PGSIZE_STEP_MAP_INSERTED,	/* the container knows that it is there */

	PGSIZE_STEP_UNMAP_BEGINS,
	PGSIZE_STEP_UNMAP_REMOVED,	/* the container does not know it */
	PGSIZE_STEP_UNMAP_HELD,		/* it is not the hook's */
	PGSIZE_STEP_UNMAP_OUT,		/* the leaves are gone */
	PGSIZE_STEP_UNMAP_FLUSHED,	/* from the IOTLB, too */
	PGSIZE_STEP_UNMAP_UNPINNED,
	PGSIZE_STEP_UNMAP_UNWATCHED,	/* the hook does not know it */

	PGSIZE_STEP_MERGE_BEGINS,	/* the worker has found a small block that may be whole */
	PGSIZE_STEP_MERGE_LOOKED,	/* it has looked at the RMP */

	PGSIZE_STEP_POLICY_WATCHED,	/* SET_POLICY has made a watch ready */

	PGSIZE_STEP_SMASH_BEGINS,	/* the call is made; the hook knows nothing yet */
	PGSIZE_STEP_SMASH_NOTED,	/* the hook has done its work; the RMP is as it was */
	PGSIZE_STEP_SMASH_CHANGED,	/* so is the RMP; the hook holds the call to be under way */
	PGSIZE_STEP_SMASH_DONE,		/* it is over */
	PGSIZE_STEP_SMASH_LOCKED,	/* after it began: the hook has the lock of the tree */
	PGSIZE_STEPS,
};

/*
 * The parameter `gates`, in sysfs. Written: numbers with commas between, two for
 * each gate; at the first step whoever comes by waits until somebody is at the
 * second. That forgets all gates before, and what they saw.
 *
 * Read: a word for each step, in their order, "reached/passed": of all that
 * happened at steps since then, the how manieth each was; 0: it did not happen
 * yet. Then the steps at which waiting was given up, bit by bit. Only the first
 * who comes by a step counts.
 */
#define PGSIZE_GATES	4

/* The parameter `busy_patience`: milliseconds until a smash that waits gives it up. */

/*
 * The parameter `longest`: for how long the lock of the rmap was held at most, with
 * interrupts off, in ticks of the time-stamp counter. Written, it begins anew.
 */

#ifdef __KERNEL__
#include <linux/types.h>

void pgsize_step(unsigned int step);
/* The hook is called in a panic; says so in the log. */
void pgsize_hooked_in_panic(void);
/* The parameter `own_domains`. */
bool pgsize_own_domains(void);
/* The lock of the rmap is taken, or about to be let go. */
void pgsize_lock_taken(void);
void pgsize_lock_held(void);
#endif

#endif
