/* SPDX-License-Identifier: GPL-2.0 */
/* Opens the VFIO group of a PCI device, and maps the device's registers. */
#ifndef SAMPLES_VFIO_OPEN_H
#define SAMPLES_VFIO_OPEN_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#define VFIO_PATH	128

/*
 * Opens the group of a device, of which `device` is the directory in /sys. Returns a descriptor,
 * or -1 with errno set and `path` the file that it could not open: /dev/vfio/GROUP, or one in
 * /sys if the device has no group.
 */
static inline int vfio_open_group_of(const char *device, char path[VFIO_PATH])
{
	char link[VFIO_PATH];
	ssize_t length;

	snprintf(path, VFIO_PATH, "%s/iommu_group", device);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		return -1;
	link[length] = '\0';
	snprintf(path, VFIO_PATH, "/dev/vfio/%s", strrchr(link, '/') + 1);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* The same for a PCI device such as "0000:00:03.0". */
static inline int vfio_open_group(const char *address, char path[VFIO_PATH])
{
	char device[VFIO_PATH / 2];

	snprintf(device, sizeof(device), "/sys/bus/pci/devices/%s", address);
	return vfio_open_group_of(device, path);
}

/* Maps BAR 0 and enables DMA. Returns MAP_FAILED on failure, with errno ENXIO for another size. */
static inline void *vfio_map_bar0(int device, size_t size)
{
	struct vfio_region_info bar = { .argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX };
	struct vfio_region_info config = { .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar) ||
	    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config))
		return MAP_FAILED;
	if (bar.size != size) {
		errno = ENXIO;
		return MAP_FAILED;
	}
	if (pwrite(device, &command, sizeof(command), config.offset + PCI_COMMAND) != sizeof(command))
		return MAP_FAILED;
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset);
}

#endif
