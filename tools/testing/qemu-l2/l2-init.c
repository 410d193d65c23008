// SPDX-License-Identifier: GPL-2.0
/*
 * The only program of the L2 guest, its /init: finds the edu device that was passed
 * through, and makes it copy pages of the guest's memory. It prints
 *
 *	l2: <n> pages copied by the device
 *
 * or "l2: failed: <why>", waits for a line on the console, so that the host can inspect
 * the running machine, and switches the machine off.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "../../../samples/c/edu_registers.h"

/* The slot of the device in the guest, as in qemu-l2.sh. */
#define DEVICE		"/sys/bus/pci/devices/0000:00:08.0/"
#define EDU_ID		(EDU_DEVICE << 16 | EDU_VENDOR)

#define PAGE		4096
#define COPIES		16
/* Timeout of a transfer in seconds: the host may be busy. */
#define PATIENCE	300
/* Distance between pages, so that they spread over the memory. */
#define STRIDE		(4 << 20)

static void __attribute__((noreturn)) switch_off(void)
{
	fflush(stdout);
	getchar();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	int error = errno;
	va_list args;

	printf("l2: failed: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(error ? ": %s\n" : "\n", strerror(error));
	switch_off();
}

static int open_or_fail(const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd < 0)
		fail("%s", path);
	return fd;
}

/* The guest has no IOMMU: the device needs the physical address. */
static uint64_t physical(int pagemap, const void *page)
{
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof(entry), (uintptr_t)page / PAGE * 8) != sizeof(entry))
		fail("/proc/self/pagemap");
	errno = 0;
	if (!(entry >> 63) || !(entry << 9))
		fail("page %p has no physical address: %#llx", page, (unsigned long long)entry);
	return (entry & ((1ULL << 55) - 1)) * PAGE;
}

static volatile uint8_t *open_edu(void)
{
	int config = open_or_fail(DEVICE "config", O_RDWR);
	uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	uint32_t id;
	void *registers;

	if (pread(config, &id, sizeof(id), 0) != sizeof(id))
		fail(DEVICE "config");
	errno = 0;
	if (id != EDU_ID)
		fail("the device is %#x, no edu", id);
	if (write(open_or_fail(DEVICE "enable", O_WRONLY), "1", 1) != 1)
		fail("cannot enable the device");
	if (pwrite(config, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
		fail("cannot switch DMA on");
	registers = mmap(NULL, EDU_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 open_or_fail(DEVICE "resource0", O_RDWR | O_SYNC), 0);
	if (registers == MAP_FAILED)
		fail(DEVICE "resource0");
	return registers;
}

static void dma(volatile uint8_t *edu, uint64_t source, uint64_t target, uint64_t command)
{
	edu_start(edu, source, target, PAGE, command);
	for (int ms = 0; edu_is_busy(edu); ms++) {
		errno = 0;
		if (ms == PATIENCE * 1000)
			fail("the device does not end its DMA");
		usleep(1000);
	}
}

int main(void)
{
	uint8_t *memory, *from, *to;
	volatile uint8_t *edu;
	int pagemap;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) || mount("sysfs", "/sys", "sysfs", 0, NULL))
		fail("cannot mount /proc and /sys");
	pagemap = open_or_fail("/proc/self/pagemap", O_RDONLY);
	edu = open_edu();
	memory = mmap(NULL, (COPIES + 1) * STRIDE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
	if (memory == MAP_FAILED)
		fail("no memory");
	for (int i = 0; i < COPIES; i++) {
		from = memory + i * STRIDE;
		to = from + STRIDE - PAGE;
		for (int n = 0; n < PAGE; n++)
			from[n] = i * 31 ^ n ^ n >> 8;
		dma(edu, physical(pagemap, from), EDU_BUFFER, 0);
		dma(edu, EDU_BUFFER, physical(pagemap, to), EDU_TO_MEMORY);
		errno = 0;
		if (memcmp(from, to, PAGE))
			fail("page %d did not arrive", i);
	}
	printf("l2: %d pages copied by the device\n", COPIES);
	switch_off();
}
