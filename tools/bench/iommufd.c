// SPDX-License-Identifier: GPL-2.0
/* The backend behind /dev/iommu, with its own calls and the device's cdev. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "bench.h"

static int iommufd = -1;
static int cdev = -1;
static uint32_t ioas;
static uint32_t device_id;
static uint32_t tracked;	/* a domain of ioas with dirty tracking, or 0 */

static int open_cdev(const char *device)
{
	char path[512] = "";
	struct dirent *entry;
	DIR *directory;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", device);
	directory = opendir(path);
	if (!directory)
		die("%s: is the device bound to vfio-pci, and does the kernel have CONFIG_VFIO_DEVICE_CDEV?",
		    path);
	path[0] = '\0';
	while ((entry = readdir(directory)))
		if (!strncmp(entry->d_name, "vfio", 4))
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
	closedir(directory);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: no character device of %s", path, device);
	return fd;
}

static void iommufd_open(const struct backend *backend, const char *device)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = IOMMU_OPTION_HUGE_PAGES,
		.op = IOMMU_OPTION_OP_SET,
		.val64 = 0,
	};

	iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (iommufd < 0)
		die("/dev/iommu");
	cdev = open_cdev(device);
	bind.iommufd = iommufd;
	if (ioctl(cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		die("iommufd does not take %s", device);
	if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc))
		die("IOMMU_IOAS_ALLOC");
	device_id = bind.out_devid;
	tracked = 0;
	ioas = option.object_id = alloc.out_ioas_id;
	if (backend->small && ioctl(iommufd, IOMMU_OPTION, &option))
		die("IOMMU_OPTION_HUGE_PAGES");
	attach.pt_id = ioas;
	if (ioctl(cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		die("VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

static void iommufd_close(void)
{
	close(cdev);
	close(iommufd);
}

static void iommufd_map(void *memory, uint64_t at, uint64_t size)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)memory + at,
		.length = size,
		.iova = IOVA + at,
	};

	if (ioctl(iommufd, IOMMU_IOAS_MAP, &map))
		die("IOMMU_IOAS_MAP");
}

static void iommufd_unmap(uint64_t at, uint64_t size)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = ioas,
		.iova = IOVA + at,
		.length = size,
	};

	if (ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap) || unmap.length != size)
		die("IOMMU_IOAS_UNMAP");
}

/* Replaces the domain, which was allocated without dirty tracking. */
static void attach_tracked(void)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
		.dev_id = device_id,
		.pt_id = ioas,
	};
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };

	if (ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc))
		die("IOMMU_HWPT_ALLOC: does the IOMMU have dirty bits?");
	attach.pt_id = tracked = alloc.out_hwpt_id;
	if (ioctl(cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		die("VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

static void iommufd_track(bool on)
{
	struct iommu_hwpt_set_dirty_tracking request = {
		.size = sizeof(request),
		.flags = on ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0,
		.hwpt_id = tracked,
	};

	if (ioctl(iommufd, IOMMU_HWPT_SET_DIRTY_TRACKING, &request))
		die("IOMMU_HWPT_SET_DIRTY_TRACKING");
}

static void iommufd_read_dirty(uint64_t size, uint64_t *bitmap)
{
	struct iommu_hwpt_get_dirty_bitmap request = {
		.size = sizeof(request),
		.hwpt_id = tracked,
		.iova = IOVA,
		.length = size,
		.page_size = PAGE,
		.data = (uintptr_t)bitmap,
	};

	if (ioctl(iommufd, IOMMU_HWPT_GET_DIRTY_BITMAP, &request))
		die("IOMMU_HWPT_GET_DIRTY_BITMAP");
}

/* Its domain can track from now on. */
static int iommufd_open_device(const char *device)
{
	(void)device;
	attach_tracked();
	return dup(cdev);
}

#define IOMMUFD				\
	.open = iommufd_open,		\
	.close = iommufd_close,		\
	.map = iommufd_map,		\
	.unmap = iommufd_unmap,		\
	.track = iommufd_track,		\
	.read_dirty = iommufd_read_dirty, \
	.open_device = iommufd_open_device, \
	.file = "/dev/iommu"

const struct backend iommufd_backend = { IOMMUFD, .name = "iommufd" };
const struct backend iommufd_small_backend = { IOMMUFD, .name = "iommufd-4k", .small = true };
