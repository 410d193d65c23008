// SPDX-License-Identifier: GPL-2.0
/*
 * The loop of a VMM whose guest shares and unshares pages: each KVM_HC_MAP_GPA_RANGE of
 * the guest becomes a VFIO_PGSIZE_SET_STATE.
 *
 * There is no real guest. Its requests are the program's arguments, and arrive as
 * KVM_EXIT_HYPERCALL in a struct kvm_run, as from KVM. A VMM needs map_memory() and
 * handle_hypercall(); the rest shows their effect.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <linux/memfd.h>
#include <linux/vfio_pgsize.h>

#include "device.h"

/* Where the device sees GPA 0: a 2M multiple below edu's 256 MiB. */
#define IOVA	0x4000000ULL
#define SIZE	0x2000000ULL
#define PAGE	4096ULL

static int memfd;		/* the guest's shared memory ... */
static uint8_t *memory;		/* ... as mapped by the VMM */

/* --- the VMM -------------------------------------------------------------- */

/* Call once during setup: maps all guest memory, in one mapping, all private. */
static void map_memory(int container)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE |
			 VFIO_PGSIZE_MAP_STATEFUL,
		.vaddr = (uintptr_t)memory,
		.iova = IOVA,
		.size = SIZE,
	};

	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		die("cannot map the memory, with page states%s", errno == EOPNOTSUPP ?
		    ": they need an IOMMU page table of AMD's host format" : "");
}

static int set_state(int container, uint64_t gpa, uint64_t size, uint32_t state)
{
	struct vfio_pgsize_state change = { .iova = IOVA + gpa, .size = size, .state = state };
	struct vfio_pgsize_set_state set = {
		.argsz = sizeof(set),
		.nr = 1,		/* for several changes, set.nr is the number of completed ones */
		.changes = (uintptr_t)&change,
	};

	return ioctl(container, VFIO_PGSIZE_SET_STATE, &set) ? -errno : 0;
}

/*
 * Changes KVM's attribute of the pages. A VMM calls KVM_SET_MEMORY_ATTRIBUTES here, with
 * or without KVM_MEMORY_ATTRIBUTE_PRIVATE. The contents of a private page are in
 * guest_memfd, so the shared page is freed.
 */
static int convert_memory(uint64_t gpa, uint64_t size, bool private)
{
	if (private && fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, gpa, size))
		return -errno;
	return 0;
}

/* The cause of a failed conversion, if the errno is not clear. */
static const char *reason(int error)
{
	switch (error) {
	case ENOENT:
		return "the range is not in the guest's memory";
	case ENOMEM:
		return "no memory, or the limit on locked memory is reached (ulimit -l)";
	default:
		return strerror(error);
	}
}

/* Makes the conversion that the guest requests. Returns 0 or a negative error. */
static int convert(int container, const struct kvm_run *run)
{
	uint64_t gpa = run->hypercall.args[0], size = run->hypercall.args[1] * PAGE;
	int ret;

	/* KVM_CAP_EXIT_HYPERCALL enables exits for this hypercall. */
	if (run->hypercall.nr != KVM_HC_MAP_GPA_RANGE)
		return -EINVAL;
	if (run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED) {
		/* When this returns no device reaches the pages, and they are not pinned. */
		ret = set_state(container, gpa, size, VFIO_PGSIZE_STATE_PRIVATE);
		return ret ? ret : convert_memory(gpa, size, true);
	}
	/* Only pages that belong to the host may go to devices. */
	ret = convert_memory(gpa, size, false);
	if (!ret)
		ret = set_state(container, gpa, size, VFIO_PGSIZE_STATE_SHARED);
	/* On failure the guest gets the error, and can try again. */
	if (ret)
		convert_memory(gpa, size, true);
	return ret;
}

/*
 * KVM_RUN returned KVM_EXIT_HYPERCALL. The answer is 0, EINVAL or EAGAIN, and positive:
 * with any other value the next KVM_RUN of an SNP guest fails. An SNP guest takes both
 * EINVAL and EAGAIN as an error; a TDX guest takes EAGAIN as "try again".
 */
static void handle_hypercall(int container, struct kvm_run *run)
{
	int ret = convert(container, run);

	if (ret)
		fprintf(stderr, "page-states: GPA %#llx: %s\n", run->hypercall.args[0],
			reason(-ret));
	run->hypercall.ret = ret ? EINVAL : 0;
}

/* --- the guest, and what its device sees ----------------------------------- */

static uint64_t parse_size(const char *text, char end, const char **rest)
{
	char *at;
	uint64_t size = strtoull(text, &at, 0);
	const char *unit = *at ? strchr("KMG", *at) : NULL;

	if (unit) {
		size <<= 10 * (1 + (unit - (const char *)"KMG"));
		at++;
	}
	errno = 0;
	if (*at != end || size % PAGE)
		die("'%s' is no number of bytes, a multiple of 4K", text);
	*rest = at + (end != '\0');
	return size;
}

/* Parses "share:GPA:SIZE" or "private:GPA:SIZE". */
static void play_guest(struct kvm_run *run, const char *conversion)
{
	bool private = !strncmp(conversion, "private:", 8);
	const char *rest = strchr(conversion, ':');
	uint64_t gpa, size;

	errno = 0;
	if (!rest || (!private && strncmp(conversion, "share:", 6)))
		die("'%s' is neither share:GPA:SIZE nor private:GPA:SIZE", conversion);
	gpa = parse_size(rest + 1, ':', &rest);
	size = parse_size(rest, '\0', &rest);
	run->exit_reason = KVM_EXIT_HYPERCALL;
	run->hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	run->hypercall.args[0] = gpa;
	run->hypercall.args[1] = size / PAGE;
	run->hypercall.args[2] = private ? KVM_MAP_GPA_RANGE_ENCRYPTED : KVM_MAP_GPA_RANGE_DECRYPTED;
}

/* The next KVM_RUN: checks the answer as KVM does for an SNP guest. Returns its success. */
static bool play_answer(const struct kvm_run *run)
{
	uint64_t answer = run->hypercall.ret;

	errno = 0;
	if (answer && answer != EINVAL && answer != EAGAIN)
		die("KVM_RUN would fail: %#llx is no answer to KVM_HC_MAP_GPA_RANGE",
		    (unsigned long long)answer);
	if (answer)
		fprintf(stderr, "page-states: the guest is told %s\n",
			answer == EINVAL ? "EINVAL" : "EAGAIN");
	return !answer;
}

/* Prints leaves and private pages; finds the first and the last shared page. */
static bool print_states(int container, uint64_t *first, uint64_t *last)
{
	struct vfio_pgsize_run runs[64];
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.flags = VFIO_PGSIZE_QUERY_STATE,
		.iova = IOVA,
		.size = SIZE,
		.runs = (uintptr_t)runs,
	};
	bool any = false;

	while (query.size) {
		query.nr = sizeof(runs) / sizeof(runs[0]);
		if (ioctl(container, VFIO_PGSIZE_QUERY, &query))
			die("the container cannot report its leaves");
		for (unsigned int i = 0; i < query.nr; i++) {
			if (runs[i].flags & VFIO_PGSIZE_RUN_PRIVATE) {
				printf("private %#llx %#llx\n", runs[i].iova, runs[i].size);
				continue;
			}
			printf("run %#llx %#llx %#llx rw (leaves: %llu)\n", runs[i].iova,
			       runs[i].size, runs[i].pgsize, runs[i].size / runs[i].pgsize);
			*first = any ? *first : runs[i].iova;
			*last = runs[i].iova + runs[i].size - PAGE;
			any = true;
		}
	}
	return any;
}

/* Makes the device copy a shared page to another. */
static void copy_by_device(volatile uint8_t *edu, uint64_t first, uint64_t last)
{
	static uint8_t seed;

	seed++;
	for (int i = 0; i < EDU_BUFFER_SIZE; i++)
		memory[first - IOVA + i] = seed ^ i ^ i >> 8;
	start_dma(edu, first, EDU_BUFFER, 0);
	finish_dma(edu);
	start_dma(edu, EDU_BUFFER, last, EDU_TO_MEMORY);
	finish_dma(edu);
	errno = 0;
	if (memcmp(memory + first - IOVA, memory + last - IOVA, EDU_BUFFER_SIZE))
		die("the bytes that DMA moved did not arrive");
	printf("dma %d bytes, from iova %#llx through the device to %#llx: same\n",
	       EDU_BUFFER_SIZE, (unsigned long long)first, (unsigned long long)last);
}

static const char usage[] =
"Usage: page-states [--pause] PCI-ADDRESS [CONVERSION...]\n"
"\n"
"Simulates a VMM with a guest of 32 MiB and an edu device (0000:00:03.0) that is\n"
"bound to vfio-pci. All guest memory starts private, and is not in the IOMMU. Each\n"
"CONVERSION is handled like a hypercall:\n"
"\n"
"  share:GPA:SIZE     devices may use these pages from now on\n"
"  private:GPA:SIZE   devices may no longer use them\n"
"\n"
"GPA and SIZE are in bytes, or like 4K or 2M. Default: share a page, share its 2M, take\n"
"a page back, share it again, and take all back. After each the device copies the first\n"
"shared page to the last, and these lines report the result:\n"
"\n"
"  run IOVA SIZE PAGE-SIZE ACCESS (leaves: COUNT)\n"
"  private IOVA SIZE\n"
"\n"
"  --pause   wait for a line on standard input after each report\n";

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "pause", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	static char *default_conversions[] = {
		"share:2M:4K", "share:2M:2M", "private:3M:4K", "share:3M:4K", "private:0:32M",
	};
	char **conversions = default_conversions;
	int count = 5, option, container, group;
	struct kvm_run run = {};
	volatile uint8_t *edu;
	bool pause = false;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'h')
			return fputs(usage, stdout) == EOF;
		if (option == 'p')
			pause = true;
		if (option == '?')
			optind = argc + 1;
	}
	if (optind >= argc)
		return fputs(usage, stderr), 2;
	if (optind + 1 < argc) {
		conversions = argv + optind + 1;
		count = argc - optind - 1;
	}
	container = open_container();
	group = open_group(container, argv[optind]);
	memfd = memfd_create("guest", MFD_HUGETLB | MFD_HUGE_2MB);
	if (memfd < 0 || ftruncate(memfd, SIZE))
		die("no memfd of huge pages");
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (memory == MAP_FAILED)
		die("no %llu huge pages of 2M: reserve them in "
		    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", SIZE >> 21);
	map_memory(container);
	edu = open_edu(group, argv[optind]);
	for (int i = 0; i < count; i++) {
		uint64_t first, last;

		printf("conversion %s\n", conversions[i]);
		play_guest(&run, conversions[i]);
		handle_hypercall(container, &run);
		if (!play_answer(&run))
			return 1;
		if (print_states(container, &first, &last))
			copy_by_device(edu, first, last);
		puts(".");
		fflush(stdout);
		if (pause && getchar() == EOF)
			break;
	}
	return 0;
}
