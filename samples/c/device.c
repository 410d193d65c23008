// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/vfio_pgsize.h>

#include "device.h"
#include "vfio_open.h"

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
	exit(1);
}

/* --- VFIO: container, group ------------------------------------------------ */

int open_container(void)
{
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	if (container < 0 && errno == EACCES)
		die("/dev/vfio/vfio: this needs root");
	if (container < 0)
		die("/dev/vfio/vfio: load VFIO, by 'modprobe vfio'");
	errno = 0;
	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_PGSIZE_IOMMU) < VFIO_PGSIZE_VERSION)
		die("no backend of VFIO has page-size policies: load the module vfio_pgsize");
	return container;
}

/* A container has an IOMMU only after a group joins. */
int open_group(int container, const char *address)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[VFIO_PATH];
	int group = vfio_open_group(address, path);

	if (group < 0 && !strncmp(path, "/sys", 4))
		die("%s: there is no such device, or no IOMMU translates for it", path);
	if (group < 0 && errno == EBUSY)
		die("%s: another program uses a device of the group of %s", path, address);
	if (group < 0)
		die("%s: bind %s to vfio-pci, and run as root", path, address);
	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status))
		die("%s: no status", path);
	errno = 0;
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("%s: all devices of the group must be bound to vfio-pci", path);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		die("%s: cannot join the container", path);
	if (!ioctl(container, VFIO_SET_IOMMU, VFIO_PGSIZE_IOMMU))
		return group;
	if (errno == EPERM)
		die("%s: the group's interrupts are not isolated: if its users are trusted, load "
		    "vfio_pgsize with allow_unsafe_interrupts=1", path);
	die("%s: vfio_pgsize does not take the group (see dmesg)", path);
}

/* --- the edu device ------------------------------------------------------ */

/* Timeout in seconds: the device is emulated. */
#define PATIENCE	300

volatile uint8_t *open_edu(int group, const char *address)
{
	int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	void *registers;

	if (device < 0)
		die("%s: no such device in its group", address);
	registers = vfio_map_bar0(device, EDU_BAR_SIZE);
	if (registers == MAP_FAILED && errno == ENXIO)
		die("%s is no edu device: its BAR 0 has another size", address);
	if (registers == MAP_FAILED)
		die("%s: cannot map BAR 0", address);
	return registers;
}

void start_dma(volatile uint8_t *edu, uint64_t source, uint64_t target, uint64_t command)
{
	edu_start(edu, source, target, EDU_BUFFER_SIZE, command);
}

void finish_dma(volatile uint8_t *edu)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	for (int ms = 0; edu_is_busy(edu); ms++) {
		errno = ETIMEDOUT;
		if (ms == PATIENCE * 1000)
			die("the device does not end its DMA");
		nanosleep(&pause, NULL);
	}
}
