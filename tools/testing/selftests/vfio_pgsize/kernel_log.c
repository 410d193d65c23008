// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel_log.h"

static const char *const bugs[] = {
	"BUG:", "WARNING:", "KASAN:", "Oops", "unreferenced object", "general protection fault",
};

problem kernel_log_start(struct kernel_log *log)
{
	memset(log, 0, sizeof(*log));
	log->fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log->fd < 0 || lseek(log->fd, 0, SEEK_END) < 0)
		return problem_is("/dev/kmsg: %m");
	return NULL;
}

/* "vfio-pci 0000:00:03.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0x1000 ..." */
static void note_fault(struct kernel_log *log, const char *record)
{
	const char *address = strstr(record, "address=");

	log->faults++;
	log->fault_iova = 0;
	if (address)
		sscanf(address, "address=%lx", &log->fault_iova);
}

/* "vfio-pci 0000:00:03.0: AMD-Vi: Event logged [RMP_PAGE_FAULT vmg_tag=0x0000, gpa=0x1000, ..." */
static void note_rmp_fault(struct kernel_log *log, const char *record)
{
	const char *device = strstr(record, "vfio-pci "), *gpa = strstr(record, "gpa=");

	log->rmp_faults++;
	log->rmp_device[0] = '\0';
	log->rmp_iova = 0;
	if (device)
		sscanf(device, "vfio-pci %12s", log->rmp_device);
	if (gpa)
		sscanf(gpa, "gpa=%lx", &log->rmp_iova);
}

void kernel_log_read(struct kernel_log *log)
{
	char record[8192];
	ssize_t length;

	for (;;) {
		length = read(log->fd, record, sizeof(record) - 1);
		if (length < 0 && errno == EPIPE)
			continue;	/* records were overwritten: go on with the next */
		if (length <= 0)
			return;
		record[length] = '\0';
		if (strstr(record, "IO_PAGE_FAULT"))
			note_fault(log, record);
		if (strstr(record, "RMP_PAGE_FAULT"))
			note_rmp_fault(log, record);
		if (log->wanted && strstr(record, log->wanted))
			log->seen++;
		if (strstr(record, "RLIMIT_MEMLOCK exceeded"))
			log->memlock_warnings++;
		for (size_t i = 0; !log->bug[0] && i < sizeof(bugs) / sizeof(bugs[0]); i++) {
			const char *text = strstr(record, bugs[i]);

			/* The scheduler's, on a host that is too busy: machine.py judges it. */
			if (text && !strstr(text, " at hrtimer_forward"))
				snprintf(log->bug, sizeof(log->bug), "%.*s",
					 (int)strcspn(text, "\n"), text);
		}
	}
}

/*
 * Hundredths of two seconds to wait for an expected fault. The kernel logs only some faults in
 * five seconds; one that it omits is caused again.
 */
#define LOGGED_SOON	100

static bool wait_for_more(struct kernel_log *log, const int *count, int than)
{
	for (int i = 0; i < LOGGED_SOON; i++) {
		kernel_log_read(log);
		if (*count > than)
			return true;
		usleep(20000);
	}
	return false;
}

bool kernel_log_wait_for_fault(struct kernel_log *log, int than)
{
	return wait_for_more(log, &log->faults, than);
}

bool kernel_log_wait_for_rmp_fault(struct kernel_log *log, int than)
{
	return wait_for_more(log, &log->rmp_faults, than);
}

void kernel_log_stop(struct kernel_log *log)
{
	if (log->fd > 0)
		close(log->fd);
	log->fd = -1;
}

problem kernel_log_end(struct kernel_log *log)
{
	kernel_log_read(log);
	kernel_log_stop(log);
	if (log->bug[0])
		return problem_is("the kernel logged: %s", log->bug);
	if (log->faults)
		return problem_is("%d DMA faults, the last at %#lx", log->faults, log->fault_iova);
	return NULL;
}
