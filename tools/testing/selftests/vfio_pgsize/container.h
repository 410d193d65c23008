/* SPDX-License-Identifier: GPL-2.0 */
/* A VFIO container and its ioctls: each returns 0 (or a file descriptor), or -errno. */
#ifndef VFIO_PGSIZE_CONTAINER_H
#define VFIO_PGSIZE_CONTAINER_H

#include <stdint.h>

#include <linux/vfio_pgsize.h>

#include "problem.h"

int container_open(void);
int container_set_type(int container, unsigned long type);
/* What VFIO_CHECK_EXTENSION answers, or -errno. */
int container_extension(int container, unsigned long extension);

/* The IOMMU group of a PCI device ("0000:00:03.0"); -EBUSY if it is open. */
int group_open(const char *bdf);
int group_join(int group, int container);
int group_leave(int group);
int group_device(int group, const char *bdf);

int dma_map(int container, uint64_t iova, const void *va, uint64_t size, uint32_t flags);
/* *size: bytes to unmap; on return, those that were unmapped. */
int dma_unmap(int container, uint64_t iova, uint64_t *size, uint32_t flags);
/* Unmap just what was mapped. */
problem dma_unmap_exactly(int container, uint64_t iova, uint64_t size);

int policy_set(int container, uint32_t flags, uint64_t iova, uint64_t size, uint64_t pgsizes);
/* The container's own policy; with VFIO_PGSIZE_POLICY_APPLY at once. */
int policy_of_all(int container, uint32_t flags, uint64_t pgsizes);
/*
 * *nr: the changes that there are; on return, those that are done, or as it was if
 * the call says nothing of it.
 */
int set_state(int container, const struct vfio_pgsize_state *changes, uint32_t *nr);
int get_stats(int container, struct vfio_pgsize_stats *stats);

int policy_get(int container, struct vfio_pgsize_policy *policy, uint32_t flags, uint64_t iova);

/* As VFIO_PGSIZE_SET_EVENT. */
int event_set(int container, int fd);

/* What VFIO_IOMMU_GET_INFO says, its capabilities taken apart. */
struct info {
	uint32_t flags;
	uint64_t pgsizes;
	uint32_t nr_ranges;
	struct vfio_iova_range ranges[32];
	int dma_avail;			/* -1: no such capability */
	uint64_t migration_pgsizes;	/* 0: no such capability */
	uint64_t max_dirty_bitmap;
	struct vfio_pgsize_info_cap policy;	/* header.id 0: no such capability */
};

problem container_info(int container, struct info *info);

#endif
