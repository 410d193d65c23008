/* SPDX-License-Identifier: GPL-2.0 */
/* A VFIO container and its ioctls: each returns 0 (or a file descriptor), or -errno. */
#ifndef VFIO_PGSIZE_CONTAINER_H
#define VFIO_PGSIZE_CONTAINER_H

#include <stdint.h>

#include <linux/vfio_pgsize.h>

#include "problem.h"

int container_open(void);
int container_set_type(int container, unsigned long type);
/* The answer of VFIO_CHECK_EXTENSION, or -errno. */
int container_extension(int container, unsigned long extension);

/* The IOMMU group of a PCI device ("0000:00:03.0"); -EBUSY if it is open. */
int group_open(const char *bdf);
/* The same of a device anywhere in sysfs. */
int group_open_at(const char *device);
int group_join(int group, int container);
int group_leave(int group);
int group_device(int group, const char *bdf);

int dma_map(int container, uint64_t iova, const void *va, uint64_t size, uint32_t flags);
/* *size: bytes to unmap; on return, the unmapped bytes. */
int dma_unmap(int container, uint64_t iova, uint64_t *size, uint32_t flags);
/* Unmap exactly what was mapped. */
problem dma_unmap_exactly(int container, uint64_t iova, uint64_t size);

int policy_set(int container, uint32_t flags, uint64_t iova, uint64_t size, uint64_t pgsizes);
/* The container's policy; with VFIO_PGSIZE_POLICY_APPLY for mapped memory, too. */
int policy_of_all(int container, uint32_t flags, uint64_t pgsizes);
/*
 * *nr: the number of changes; on return, of completed changes, or unchanged if the call does
 * not write it.
 */
int set_state(int container, const struct vfio_pgsize_state *changes, uint32_t *nr);
int get_stats(int container, struct vfio_pgsize_stats *stats);

int policy_get(int container, struct vfio_pgsize_policy *policy, uint32_t flags, uint64_t iova);

/* As VFIO_PGSIZE_SET_EVENT. */
int event_set(int container, int fd);

/* The answer of VFIO_IOMMU_GET_INFO, with its capabilities parsed. */
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
