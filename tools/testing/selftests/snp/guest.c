// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backing.h"
#include "guest.h"
#include "rmp.h"
#include "units.h"

problem guest_start(struct guest *guest, void *va, uint64_t size)
{
	struct snp_host_memory memory = { .va = (uintptr_t)va, .size = size };

	guest->va = va;
	guest->size = size;
	guest->fd = open("/dev/" SNP_HOST_DEVICE, O_RDWR | O_CLOEXEC);
	if (guest->fd < 0)
		return problem_is("/dev/" SNP_HOST_DEVICE ": %m (load_snp_host?)");
	if (size && ioctl(guest->fd, SNP_HOST_MEMORY, &memory))
		return problem_is("the guest's memory of %#lx bytes: %m", size);
	return NULL;
}

void guest_stop(struct guest *guest)
{
	if (guest->fd > 0)
		close(guest->fd);
	guest->fd = -1;
}

static int call(struct guest *guest, struct snp_host_page *page)
{
	return ioctl(guest->fd, SNP_HOST_PAGE, page) ? -errno : page->result;
}

static problem must(struct guest *guest, enum snp_host_op op, const char *what, uint64_t gpa,
		    bool huge)
{
	struct snp_host_page page = { .gpa = gpa, .op = op, .huge = huge };
	int ret = call(guest, &page);

	if (!ret)
		return NULL;
	return problem_is("%s the %s at GPA %#lx: %s (%d)", what, huge ? "2M" : "4K", gpa,
			  ret < 0 ? strerror(-ret) : "the instruction refused", ret);
}

problem guest_assign(struct guest *guest, uint64_t gpa, bool huge)
{
	return must(guest, SNP_HOST_ASSIGN, "assigning", gpa, huge);
}

problem guest_share(struct guest *guest, uint64_t gpa, bool huge)
{
	return must(guest, SNP_HOST_SHARE, "sharing", gpa, huge);
}

problem guest_smash(struct guest *guest, uint64_t gpa)
{
	return must(guest, SNP_HOST_SMASH, "smashing", gpa, true);
}

problem guest_assign_pages(struct guest *guest, uint64_t gpa, uint64_t size)
{
	problem wrong = NULL;

	for (uint64_t at = 0; !wrong && at < size; at += PAGE)
		wrong = guest_assign(guest, gpa + at, false);
	return wrong;
}

problem guest_share_pages(struct guest *guest, uint64_t gpa, uint64_t size)
{
	problem wrong = NULL;

	for (uint64_t at = 0; !wrong && at < size; at += PAGE)
		wrong = guest_share(guest, gpa + at, false);
	return wrong;
}

problem guest_page_is(struct guest *guest, uint64_t gpa, bool assigned, bool huge)
{
	struct snp_host_page page = { .gpa = gpa, .op = SNP_HOST_LOOKUP };
	int ret = call(guest, &page);
	struct rmp_entry entry;
	problem wrong;
	uint64_t phys;

	if (ret)
		return problem_is("looking GPA %#lx up: %s", gpa, strerror(-ret));
	wrong = memory_phys(guest->va + gpa, 1, &phys);
	if (!wrong)
		wrong = rmp_entry(&entry, phys);
	if (wrong)
		return wrong;
	if (page.assigned == assigned && !!page.huge == huge && entry.assigned == assigned &&
	    entry.huge == huge)
		return NULL;
	return problem_is("GPA %#lx is to be %s %s; the kernel finds %s %s, the oracle %s %s", gpa,
			  assigned ? "assigned" : "shared", huge ? "2M" : "4K",
			  page.assigned ? "assigned" : "shared", page.huge ? "2M" : "4K",
			  entry.assigned ? "assigned" : "shared", entry.huge ? "2M" : "4K");
}

problem guest_miss(struct guest *guest, bool on)
{
	struct snp_host_miss miss = { .on = on };

	return ioctl(guest->fd, SNP_HOST_MISS, &miss) ? problem_is("SNP_HOST_MISS: %m") : NULL;
}

problem guest_switch(struct guest *guest, enum snp_host_switch_op op, uint32_t cpus)
{
	struct snp_host_switch what = { .op = op, .cpus = cpus };

	return ioctl(guest->fd, SNP_HOST_SWITCH, &what) ? problem_is("SNP_HOST_SWITCH: %m") : NULL;
}

problem guest_stop_queue(struct guest *guest, bool stopped)
{
	struct snp_host_queue what = { .stopped = stopped };

	return ioctl(guest->fd, SNP_HOST_QUEUE, &what) ? problem_is("SNP_HOST_QUEUE: %m") : NULL;
}

problem guest_panic(struct guest *guest, uint64_t smashed, uint64_t shared)
{
	struct snp_host_panic what = { .smashed = smashed, .shared = shared };

	return problem_is("SNP_HOST_PANIC: %d", ioctl(guest->fd, SNP_HOST_PANIC, &what));
}

int guest_kernel_store(struct guest *guest, uint64_t gpa)
{
	struct snp_host_page page = { .gpa = gpa, .op = SNP_HOST_STORE };

	return call(guest, &page);
}

uint32_t guest_execute(struct guest *guest, struct snp_host_raw *raw)
{
	raw->eax = SNP_HOST_UNDEFINED;
	ioctl(guest->fd, SNP_HOST_RAW, raw);
	return raw->eax;
}
