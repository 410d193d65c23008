/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VMM whose leaves follow the RMP, and questions to it: which pieces of 2M have 4K
 * leaves, what was counted, and whether a device continues.
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

/* Mapped memory: pieces of 2M, some of which (bit i: piece i) have 4K leaves. */
struct mapped {
	uint64_t iova;
	const uint8_t *va;
	uint64_t size;
	uint64_t small;
};

/*
 * Whether these, in rising order, and the scratch pages of `devices` devices are all there is.
 * Pieces that are not small have 2M leaves.
 */
problem follow_has(struct vmm *vmm, const struct mapped *mapped, int nr, int devices);
/* The same, but wait for it. */
problem follow_has_soon(struct vmm *vmm, const struct mapped *mapped, int nr, int devices);

/* An audit by QUERY: no leaf of the first `domains` domains disagrees with the RMP. */
problem follow_agrees(struct vmm *vmm, int domains);
/* The number of leaves of the first domain, in few runs, that disagree. -1: the call failed. */
int follow_mismatches(int container, uint64_t iova, uint64_t size);

problem follow_stats(struct vmm *vmm, struct vfio_pgsize_stats *stats);
/* Counts since `before`; no leaf was lost, and none had to be repaired. */
problem follow_counted(struct vmm *vmm, const struct vfio_pgsize_stats *before, uint64_t splits,
		       uint64_t merges);

/* Whether psmash() is probed. */
bool follow_is_hooked(void);
/* The number of containers that follow, and of registrations of the hook. -1: unknown. */
long follow_followers(void);
long follow_registrations(void);
/* Wait until the probes are unregistered: some seconds after the last follower. */
problem follow_ends(void);

#define PROBED	512

/* A device that continuously reads and writes a word of each page of a 2M in turn. */
struct prober {
	struct device *device;
	uint64_t iova;
	const uint8_t *va;
	atomic_uchar skipped[PROBED];	/* pages to skip */
	atomic_long page;		/* pages in use; -1: none */
	atomic_ulong done;
	atomic_ulong lost;
	atomic_ulong rounds;		/* number of complete rounds */
	atomic_bool stop;
	pthread_t thread;
	_Atomic(problem) wrong;
	char text[256];
};

problem prober_start(struct prober *prober, struct device *device, uint64_t iova,
		     const uint8_t *va);
/* The same for one of `nr` devices that share the first `pages` pages: each has its own pages. */
problem prober_start_among(struct prober *prober, struct device *device, uint64_t iova,
			   const uint8_t *va, int pages, int index, int nr);
/* No transfer was lost. */
problem prober_stop(struct prober *prober);
/* Skip a page from now on, or use it again. */
void prober_skip(struct prober *prober, int page, bool on);

#endif
