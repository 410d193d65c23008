// SPDX-License-Identifier: GPL-2.0
#include <linux/vfio.h>

#include "container/devices.h"

void pgsize_devices_init(struct pgsize_devices *devices)
{
	mutex_init(&devices->lock);
	INIT_LIST_HEAD(&devices->list);
}

void pgsize_devices_add(struct pgsize_devices *devices, struct vfio_device *device)
{
	if (!device->ops->dma_unmap)
		return;
	mutex_lock(&devices->lock);
	list_add(&device->iommu_entry, &devices->list);
	mutex_unlock(&devices->lock);
}

void pgsize_devices_remove(struct pgsize_devices *devices, struct vfio_device *device)
{
	if (!device->ops->dma_unmap)
		return;
	mutex_lock(&devices->lock);
	list_del(&device->iommu_entry);
	mutex_unlock(&devices->lock);
}

void pgsize_devices_tell(struct pgsize_devices *devices, u64 iova, u64 size)
{
	struct vfio_device *device;

	mutex_lock(&devices->lock);
	list_for_each_entry(device, &devices->list, iommu_entry)
		device->ops->dma_unmap(device, iova, size);
	mutex_unlock(&devices->lock);
}
