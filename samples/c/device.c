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

#include <linux/pci_regs.h>
#include <linux/vfio_pgsize.h>

#include "device.h"

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
	char path[128], link[128];
	ssize_t length;
	int group;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		die("%s: there is no such device, or no IOMMU translates for it", path);
	link[length] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(link, '/'));
	group = open(path, O_RDWR | O_CLOEXEC);
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

#define EDU_BAR_SIZE	0x100000
#define EDU_SOURCE	0x80
#define EDU_TARGET	0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
#define EDU_RUN		1

/* Timeout in seconds: the device is emulated. */
#define PATIENCE	300

volatile uint8_t *open_edu(int group, const char *address)
{
	struct vfio_region_info bar = { .argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX };
	struct vfio_region_info config = { .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	void *registers;

	if (device < 0)
		die("%s: no such device in its group", address);
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar) ||
	    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config))
		die("%s: no registers", address);
	errno = 0;
	if (bar.size != EDU_BAR_SIZE)
		die("%s is no edu device: its BAR 0 has %#llx bytes", address, bar.size);
	registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset);
	if (registers == MAP_FAILED)
		die("%s: cannot map BAR 0", address);
	if (pwrite(device, &command, sizeof(command), config.offset + PCI_COMMAND) != sizeof(command))
		die("%s: cannot switch DMA on", address);
	return registers;
}

void start_dma(volatile uint8_t *edu, uint64_t source, uint64_t target, uint64_t command)
{
	*(volatile uint64_t *)(edu + EDU_SOURCE) = source;
	*(volatile uint64_t *)(edu + EDU_TARGET) = target;
	*(volatile uint64_t *)(edu + EDU_COUNT) = EDU_BUFFER_SIZE;
	*(volatile uint64_t *)(edu + EDU_COMMAND) = command | EDU_RUN;
}

void finish_dma(volatile uint8_t *edu)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	for (int ms = 0; *(volatile uint64_t *)(edu + EDU_COMMAND) & EDU_RUN; ms++) {
		errno = ETIMEDOUT;
		if (ms == PATIENCE * 1000)
			die("the device does not end its DMA");
		nanosleep(&pause, NULL);
	}
}
