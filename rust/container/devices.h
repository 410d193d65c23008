/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Open emulated devices, which have to unpin pages before these are unmapped. In C, because
 * struct vfio_device has the list node.
 */
#ifndef VFIO_PGSIZE_DEVICES_H
#define VFIO_PGSIZE_DEVICES_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/types.h>

struct vfio_device;

struct pgsize_devices {
	struct mutex lock;	/* held during dma_unmap */
	struct list_head list;
};

void pgsize_devices_init(struct pgsize_devices *devices);

/* A device without dma_unmap is skipped. */
void pgsize_devices_add(struct pgsize_devices *devices, struct vfio_device *device);
void pgsize_devices_remove(struct pgsize_devices *devices, struct vfio_device *device);

/* Calls dma_unmap of each device, which unpins its pages of the range by unpin_pages. */
void pgsize_devices_tell(struct pgsize_devices *devices, u64 iova, u64 size);

#endif
