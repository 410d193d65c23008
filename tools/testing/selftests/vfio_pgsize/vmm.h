/* SPDX-License-Identifier: GPL-2.0 */
/* A small VMM for tests: a container with edu devices in it. */
#ifndef VFIO_PGSIZE_VMM_H
#define VFIO_PGSIZE_VMM_H

#include <stdint.h>

#include "accounting.h"
#include "backing.h"
#include "container.h"
#include "edu.h"
#include "kernel_log.h"
#include "leaves.h"
#include "problem.h"

#define MAX_DEVICES	8

struct vmm {
	int container;
	uint64_t sizes;		/* leaf sizes of the IOMMU */
	int first;		/* its first edu device */
	struct vmm_device {
		char bdf[BDF_SIZE];
		int group;
		struct edu edu;
	} devices[MAX_DEVICES];
	struct account before;
	struct kernel_log log;
	int faults_expected;	/* faults are the purpose of the test, not a problem */
};

/* A container of this IOMMU type with the first `devices` edu devices in it. */
problem vmm_open(struct vmm *vmm, unsigned long type, int devices);
/* The same, from edu device number `first` on. */
problem vmm_open_with(struct vmm *vmm, unsigned long type, int first, int devices);
/* Attach edu device number `index`, and have its registers mapped; detach it. */
problem vmm_attach(struct vmm *vmm, int index);
void vmm_detach(struct vmm *vmm, int index);
/* Close all; nothing may stay locked or pinned, and the log must be clean. */
problem vmm_close(struct vmm *vmm);

/* As VFIO_PGSIZE_SET_POLICY for the container. */
problem vmm_policy(struct vmm *vmm, uint32_t flags, uint64_t sizes);
problem vmm_map(struct vmm *vmm, uint64_t iova, const void *va, uint64_t size, uint32_t flags);

/* The container's number of domains. */
int vmm_domains(struct vmm *vmm);

/*
 * Whether these are all the leaves of each attached device, by QUERY (if available), for
 * each domain, and by the oracle.
 */
problem vmm_has_leaves(struct vmm *vmm, const struct leaves *expected);
/* The same for a single mapping. */
problem vmm_has_tiles(struct vmm *vmm, uint64_t iova, const void *va, uint64_t size,
		      uint64_t sizes, uint32_t flags);
problem vmm_has_nothing(struct vmm *vmm);

/* Move a page by DMA from and to the start, the middle and the end. */
problem vmm_moves_bytes(struct vmm *vmm, int device, uint64_t iova, uint8_t *va, uint64_t size);

/* A page that the device must not read, or not write: the IOMMU logs a fault. */
problem vmm_fetch_faults(struct vmm *vmm, int device, uint64_t iova);
problem vmm_store_faults(struct vmm *vmm, int device, uint64_t iova);

#endif
