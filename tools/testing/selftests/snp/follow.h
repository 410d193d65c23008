/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VMM whose leaves follow the RMP, and what is asked of it: which pieces of 2M
 * have leaves of 4K, what was counted, and whether a device goes on meanwhile.
 */
#ifndef SNP_FOLLOW_H
#define SNP_FOLLOW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "device.h"
#include "problem.h"
#include "vmm.h"

#define SPLIT		VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT
#define MERGE		VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE
#define FOLLOW		(SPLIT | MERGE)

/* Memory that is mapped: pieces of 2M, some of which (bit i: piece i) have leaves of 4K. */
struct mapped {
	uint64_t iova;
	const uint8_t *va;
	uint64_t size;
	uint64_t small;
};

/*
 * Are these, in rising order, and the scratch pages of `devices` devices all there is? What is not
 * small has leaves of 2M.
 */
problem follow_has(struct vmm *vmm, const struct mapped *mapped, int nr, int devices);
/* The same, sooner or later. */
problem follow_has_soon(struct vmm *vmm, const struct mapped *mapped, int nr, int devices);

/* No leaf of the first `domains` domains disagrees with the RMP: an audit by QUERY. */
problem follow_agrees(struct vmm *vmm, int domains);

problem follow_stats(struct vmm *vmm, struct vfio_pgsize_stats *stats);
/* So many since `before`, no leaf was lost, and none had to be repaired. */
problem follow_counted(struct vmm *vmm, const struct vfio_pgsize_stats *before, uint64_t splits,
		       uint64_t merges);

/* Is psmash() probed by anybody? */
bool follow_is_hooked(void);
/* How many containers follow; and how often the hook was registered. -1: nobody knows. */
long follow_followers(void);
long follow_registrations(void);
/* Wait until nothing is probed any more: some seconds after nobody follows. */
problem follow_ends(void);

#define PROBED	512

/* A device that reads and writes a word of each page of a 2M in turn, all the time. */
struct prober {
	struct device *device;
	uint64_t iova;
	const uint8_t *va;
	atomic_uchar skipped[PROBED];	/* pages that it leaves alone */
	atomic_long page;		/* that it uses now; -1: none */
	atomic_ulong done;
	atomic_ulong lost;
	atomic_ulong rounds;		/* how often it was at all pages */
	atomic_bool stop;
	pthread_t thread;
	_Atomic(problem) wrong;
	char text[256];
};

problem prober_start(struct prober *prober, struct device *device, uint64_t iova,
		     const uint8_t *va);
/* The same for one of `nr` devices that share the first `pages` pages: each has pages of its own. */
problem prober_start_among(struct prober *prober, struct device *device, uint64_t iova,
			   const uint8_t *va, int pages, int index, int nr);
/* No transfer was lost. */
problem prober_stop(struct prober *prober);
/* Leave a page alone from now on, or no longer. */
void prober_skip(struct prober *prober, int page, bool on);

#endif
