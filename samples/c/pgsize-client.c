// SPDX-License-Identifier: GPL-2.0
/*
 * A small VMM client of vfio_pgsize: chooses the IOMMU page size of memory
 * that a PCI device reaches, before and after mapping it.
 *
 * It drives QEMU's edu device, a DMA engine with a 4096-byte buffer, so that DMA goes
 * through the leaves. Calls specific to vfio_pgsize are in set_policy(), explain(),
 * print_leaves(), open_event() and print_following(); the rest, here and in device.c, is
 * the same in any VFIO client.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/vfio_pgsize.h>

#include "device.h"

/* Where the device sees the memory: any 2M multiple below edu's 256 MiB. */
#define IOVA		0x4000000ULL
#define MAX_MIB		128
#define HUGE_PAGE	0x200000ULL

/* --- vfio_pgsize: the policy, and its effect ------------------------------ */

/* Converts "4K,2M" or "all" to a set of leaf sizes of the UAPI. */
static uint64_t parse_sizes(const char *text)
{
	uint64_t sizes = 0;
	char *end;

	if (!strcmp(text, "all"))
		return VFIO_PGSIZE_ALL;
	for (;; text = end + 1) {
		uint64_t size = strtoull(text, &end, 10);
		const char *unit = *end ? strchr("KMGT", *end) : NULL;

		if (unit) {
			size <<= 10 * (1 + (unit - (const char *)"KMGT"));
			end++;
		}
		if (!size || (size & (size - 1)) || (*end && *end != ',')) {
			errno = 0;
			die("'%s' is no set of page sizes, as 4K,2M or all", text);
		}
		sizes |= size;
		if (!*end)
			return sizes;
	}
}

/* Leaves follow the RMP of an SNP host (--follow). */
static bool follow;

/* Converts a set of leaf sizes to text, as parse_sizes() takes it. */
static const char *sizes_text(uint64_t sizes, char *text, size_t room)
{
	size_t length = 0;

	text[0] = '\0';
	for (int lg2 = 0; lg2 < 64; lg2++) {
		if (!(sizes >> lg2 & 1) || length >= room)
			continue;
		length += snprintf(text + length, room - length, "%s%u%c", length ? "," : "",
				   1U << lg2 % 10, "BKMGTPE"[lg2 / 10]);
	}
	return text;
}

/* The cause of a failed SET_POLICY with these sizes. */
static void __attribute__((noreturn)) explain(int container, uint64_t sizes, bool apply)
{
	struct vfio_iommu_type1_info info = { .argsz = sizeof(info) };
	char wanted[256], known[256];
	int error = errno;

	if (error == EOPNOTSUPP && follow)
		die("leaves cannot follow the RMP here: that needs an SNP host, the page table "
		    "format of AMD's IOMMU, and a kernel whose RMP functions can be probed. "
		    "Leave out --follow");
	if (error == EOPNOTSUPP && apply)
		die("mapped memory cannot be converted: that needs an IOMMU page table of AMD's "
		    "host format. Give one set of page sizes only");
	if (error == EINVAL && !(sizes & 4096))
		die("the set of page sizes %s lacks 4K, which each set must have",
		    sizes_text(sizes, wanted, sizeof(wanted)));
	if (error == EINVAL && !ioctl(container, VFIO_IOMMU_GET_INFO, &info))
		die("the IOMMU has no leaves of %s; it has %s",
		    sizes_text(sizes & ~info.iova_pgsizes, wanted, sizeof(wanted)),
		    sizes_text(info.iova_pgsizes, known, sizeof(known)));
	errno = error;
	die("cannot set the policy");
}

/* Sets the container's policy, for later maps, or with apply also for mapped memory. */
static void set_policy(int container, uint64_t sizes, bool apply)
{
	struct vfio_pgsize_policy policy = {
		.argsz = sizeof(policy),
		.flags = apply ? VFIO_PGSIZE_POLICY_APPLY : 0,
		.pgsizes = sizes,
	};

	if (follow)
		policy.flags |= VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT |
				VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE;
	if (ioctl(container, VFIO_PGSIZE_SET_POLICY, &policy))
		explain(container, sizes, apply);
}

/* Reads the leaves from the page table. */
static void print_leaves(int container, uint64_t size)
{
	struct vfio_pgsize_run runs[64];
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.iova = IOVA,
		.size = size,
		.runs = (uintptr_t)runs,
	};

	while (query.size) {
		query.nr = sizeof(runs) / sizeof(runs[0]);
		if (ioctl(container, VFIO_PGSIZE_QUERY, &query))
			die("the container cannot report its leaves");
		for (unsigned int i = 0; i < query.nr; i++)
			printf("run %#llx %#llx %#llx %s%s (leaves: %llu)\n",
			       runs[i].iova, runs[i].size, runs[i].pgsize,
			       runs[i].flags & VFIO_PGSIZE_RUN_READ ? "r" : "",
			       runs[i].flags & VFIO_PGSIZE_RUN_WRITE ? "w" : "",
			       runs[i].size / runs[i].pgsize);
	}
}

/* Sets an eventfd that the module signals when a leaf could not follow the RMP. */
static int open_event(int container)
{
	struct vfio_pgsize_event event = {
		.argsz = sizeof(event),
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};

	if (event.fd < 0 || ioctl(container, VFIO_PGSIZE_SET_EVENT, &event))
		die("the container takes no eventfd");
	return event.fd;
}

/* Prints the counters of following; a VMM has the eventfd in its main loop. */
static void print_following(int container, int event)
{
	struct vfio_pgsize_stats stats = { .argsz = sizeof(stats) };
	uint64_t signals;

	if (ioctl(container, VFIO_PGSIZE_GET_STATS, &stats))
		die("the container cannot report what it counted");
	printf("followed %llu splits, %llu merges\n", stats.splits, stats.merges);
	if (read(event, &signals, sizeof(signals)) == sizeof(signals))
		printf("trouble %llu fallbacks, %llu repairs, %llu missed calls, %llu mismatches\n",
		       stats.fallbacks, stats.repairs, stats.missed, stats.mismatches);
}

/* --- the memory ------------------------------------------------------------ */

static uint8_t *map_memory(int container, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.iova = IOVA,
		.size = size,
	};
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT,
			       -1, 0);

	if (memory == MAP_FAILED)
		die("no %llu huge pages of 2M: reserve them in "
		    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
		    (unsigned long long)(size / HUGE_PAGE));
	map.vaddr = (uintptr_t)memory;
	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		die("cannot map the memory for the device%s", errno == ENOMEM ?
		    ": no memory, or the limit on locked memory is reached (ulimit -l)" : "");
	return memory;
}

/* --- DMA ----------------------------------------------------------------- */

/* Makes the device copy the first page to the last, and applies a policy meanwhile. */
static void copy_by_device(volatile uint8_t *edu, uint8_t *memory, uint64_t size,
			   int container, uint64_t sizes, bool apply)
{
	static uint8_t seed;
	uint64_t last = size - EDU_BUFFER_SIZE;

	seed++;
	for (int i = 0; i < EDU_BUFFER_SIZE; i++)
		memory[i] = seed ^ i ^ i >> 8;
	start_dma(edu, IOVA, EDU_BUFFER, 0);
	if (apply)
		set_policy(container, sizes, true);
	finish_dma(edu);
	start_dma(edu, EDU_BUFFER, IOVA + last, EDU_TO_MEMORY);
	finish_dma(edu);
	errno = 0;
	if (memcmp(memory, memory + last, EDU_BUFFER_SIZE))
		die("the bytes that DMA moved did not arrive");
	printf("dma %d bytes, from iova %#llx through the device to %#llx: same\n",
	       EDU_BUFFER_SIZE, IOVA, (unsigned long long)(IOVA + last));
}

/* --- main ---------------------------------------------------------------- */

static const char usage[] =
"Usage: pgsize-client [--mib N] [--pause] [--follow] PCI-ADDRESS [SIZES...]\n"
"\n"
"Maps N MiB (default 16) of 2M huge pages for an edu device (0000:00:03.0)\n"
"that is bound to vfio-pci. The first SIZES are the policy before mapping;\n"
"each further one is applied to mapped memory while the device does DMA.\n"
"SIZES are the allowed leaf sizes: 4K, or 4K,2M, or all. Default: 4K all.\n"
"After each policy it prints the leaves and makes the device copy a page:\n"
"\n"
"  run IOVA SIZE PAGE-SIZE ACCESS (leaves: COUNT)\n"
"\n"
"  --mib N   memory to map, an even number of MiB up to 128\n"
"  --pause   wait for a line on standard input after each report\n"
"  --follow  leaves follow the RMP (on an SNP host only); each report also has\n"
"            the counts of splits, merges and failures\n";

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "mib", required_argument, NULL, 'm' },
		{ "pause", no_argument, NULL, 'p' },
		{ "follow", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	static char *default_sizes[] = { "4K", "all" };
	char **sizes = default_sizes;
	volatile uint8_t *edu = NULL;
	uint8_t *memory = NULL;
	uint64_t size = 16;
	bool pause = false;
	int count = 2, option, container, group, event = -1;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'h')
			return fputs(usage, stdout) == EOF;
		if (option == 'm')
			size = strtoull(optarg, NULL, 10);
		if (option == 'p')
			pause = true;
		if (option == 'f')
			follow = true;
		if (option == '?')
			optind = argc + 1;
	}
	if (optind >= argc || !size || size > MAX_MIB || size % 2)
		return fputs(usage, stderr), 2;
	if (optind + 1 < argc) {
		sizes = argv + optind + 1;
		count = argc - optind - 1;
	}
	size <<= 20;
	container = open_container();
	group = open_group(container, argv[optind]);
	if (follow)
		event = open_event(container);
	for (int i = 0; i < count; i++) {
		printf("policy %s, %s\n", sizes[i],
		       i ? "applied to mapped memory under DMA" : "set before mapping");
		if (!i) {
			set_policy(container, parse_sizes(sizes[i]), false);
			memory = map_memory(container, size);
			edu = open_edu(group, argv[optind]);
		}
		copy_by_device(edu, memory, size, container, parse_sizes(sizes[i]), i > 0);
		print_leaves(container, size);
		if (follow)
			print_following(container, event);
		puts(".");
		fflush(stdout);
		if (pause && getchar() == EOF)
			break;
	}
	return 0;
}
