// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/vfio_pgsize.h>

#include "bench.h"

static const struct backend *const backends[] = {
	&type1_backend, &type1_small_backend,
	&iommufd_backend, &iommufd_small_backend,
	&pgsize_backend, &pgsize_small_backend,
};

#define BACKENDS (sizeof(backends) / sizeof(backends[0]))

static unsigned int rounds = 5;
static uint64_t size = 256 << 20;
static const char *device = "0000:00:03.0";
static bool dirty;

void die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fflush(stdout);
	fputs("pgsize-bench: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
	exit(1);
}

void write_number(const char *path, long number)
{
	FILE *file = fopen(path, "w");

	if (!file || fprintf(file, "%ld\n", number) < 0 || fclose(file))
		die("%s: cannot write %ld", path, number);
}

/* Pages that the kernel uses for IOMMU page tables. */
static long table_pages(void)
{
	char name[64];
	long value;
	FILE *file;

	/* The kernel folds the counters of each processor in only now and then. */
	write_number("/proc/sys/vm/stat_refresh", 1);
	file = fopen("/proc/vmstat", "r");
	while (file && fscanf(file, "%63s %ld", name, &value) == 2)
		if (!strcmp(name, "nr_iommu_pages")) {
			fclose(file);
			return value;
		}
	die("/proc/vmstat: no nr_iommu_pages");
}

/* --- measurements --------------------------------------------------------- */

void print_series(const struct setting *setting, const char *work, uint64_t bytes,
		  const struct series *series, long tables)
{
	printf("{\"kind\": \"result\", \"backend\": \"%s\", \"memory\": \"%s\", "
	       "\"work\": \"%s\", \"bytes\": %" PRIu64 ", \"runs\": %" PRIu64 ", ",
	       setting->backend->name, memory_names[setting->kind], work, bytes,
	       setting->memory.runs);
	if (tables >= 0)
		printf("\"table_pages\": %ld, ", tables);
	printf("\"instructions\": [");
	for (unsigned int i = 0; i < series->length; i++)
		printf("%s%" PRIu64, i ? ", " : "", series->counts[i]);
	printf("]}\n");
	fflush(stdout);
}

/* Of the whole mapping. */
static void print_counts(const struct setting *setting, const char *work,
			 const struct series *series, long tables)
{
	print_series(setting, work, setting->memory.size, series, tables);
}

static void measure_map_unmap(const struct setting *setting)
{
	const struct backend *backend = setting->backend;
	struct series map = {}, unmap = {};
	long before = table_pages(), tables = 0;

	for (unsigned int i = 0; i < rounds; i++) {
		long now;

		COUNT(map, backend->map(setting->memory.start, 0, size));
		now = table_pages();
		if (now - before > tables)
			tables = now - before;
		COUNT(unmap, backend->unmap(0, size));
	}
	print_counts(setting, "map", &map, tables);
	print_counts(setting, "unmap", &unmap, -1);
}

static void expect_leaves(const struct setting *setting, bool small)
{
	uint64_t in_4k;

	setting->backend->query(size, &in_4k);
	if (in_4k != (small ? size : 0)) {
		errno = 0;
		die("%s, %s: %" PRIu64 " of %" PRIu64 " bytes are in 4K leaves",
		    setting->backend->name, memory_names[setting->kind], in_4k, size);
	}
}

/*
 * Converts mapped memory in both directions between a 2M leaf and 512 4K leaves,
 * and queries both.
 */
static void measure_policy(const struct setting *setting)
{
	const struct backend *backend = setting->backend;
	struct series split = {}, merge = {}, query_2m = {}, query_4k = {};
	uint64_t in_4k;

	backend->set_policy(PAGE | HUGE_PAGE, false);
	backend->map(setting->memory.start, 0, size);
	for (unsigned int i = 0; i < rounds; i++) {
		COUNT(query_2m, backend->query(size, &in_4k));
		expect_leaves(setting, false);
		COUNT(split, backend->set_policy(PAGE, true));
		expect_leaves(setting, true);
		COUNT(query_4k, backend->query(size, &in_4k));
		COUNT(merge, backend->set_policy(PAGE | HUGE_PAGE, true));
		expect_leaves(setting, false);
	}
	backend->unmap(0, size);
	backend->set_policy(VFIO_PGSIZE_ALL, false);
	print_counts(setting, "split", &split, -1);
	print_counts(setting, "merge", &merge, -1);
	print_counts(setting, "query-2m", &query_2m, -1);
	print_counts(setting, "query-4k", &query_4k, -1);
}

static void measure(const struct setting *setting)
{
	const struct backend *backend = setting->backend;
	bool huge = setting->kind == MEMORY_HUGETLB || setting->kind == MEMORY_THP;

	backend->open(backend, device);
	if (dirty) {
		measure_dirty(setting);
		backend->close();
		return;
	}
	measure_map_unmap(setting);
	if (backend->query && (huge || backend->pgsizes)) {
		backend->map(setting->memory.start, 0, size);
		expect_leaves(setting, backend->pgsizes);
		backend->unmap(0, size);
	}
	if (backend->set_policy && !backend->pgsizes && huge)
		measure_policy(setting);
	backend->close();
}

/* The same memory in pieces of 4K, by each backend that the kernel has. */
static void measure_in_pieces(struct setting *setting)
{
	static const struct backend *const those[] = {
		&type1_backend, &iommufd_backend, &pgsize_joined_backend,
	};

	for (unsigned int i = 0; i < sizeof(those) / sizeof(those[0]); i++) {
		if (access(those[i]->file, F_OK))
			continue;
		those[i]->open(those[i], device);
		setting->backend = those[i];
		measure_pieces(setting);
		those[i]->close();
	}
}

/* Not a backend: the minimum that all of them pay. */
static const struct backend pinning_alone = { .name = "pinning" };

static void measure_pinning(const struct setting *setting)
{
	struct series pin = {}, unpin = {};
	struct pinning cost;

	for (unsigned int i = 0; i < rounds; i++) {
		if (!pin_and_unpin(&setting->memory, size, &cost)) {
			fputs("pgsize-bench: no pinning alone: the kernel has no gup_test\n", stderr);
			return;
		}
		pin.counts[pin.length++] = cost.pin;
		unpin.counts[unpin.length++] = cost.unpin;
	}
	print_counts(setting, "map", &pin, 0);
	print_counts(setting, "unmap", &unpin, -1);
}

static bool is_chosen(const char *only, const char *name)
{
	return !only || !strcmp(only, name);
}

/* The same pages for all backends, so that they compare. */
static unsigned int measure_backends(enum memory_kind kind, const char *only)
{
	struct setting setting = {
		.kind = kind,
		.memory = allocate_memory(kind, size),
		.device = device,
		.rounds = rounds,
	};
	unsigned int measured = 0;

	for (unsigned int i = 0; i < BACKENDS; i++) {
		setting.backend = backends[i];
		if (!is_chosen(only, backends[i]->name))
			continue;
		if (access(backends[i]->file, F_OK)) {
			fprintf(stderr, "pgsize-bench: no %s: %s is not there\n",
				backends[i]->name, backends[i]->file);
			continue;
		}
		measure(&setting);
		measured++;
	}
	if (!dirty && !only && (kind == MEMORY_HUGETLB || kind == MEMORY_SEQUENTIAL))
		measure_in_pieces(&setting);
	if (!dirty && is_chosen(only, pinning_alone.name)) {
		setting.backend = &pinning_alone;
		measure_pinning(&setting);
	}
	free_memory(&setting.memory);
	return measured;
}

static void print_machine(void)
{
	struct utsname name;

	uname(&name);
	printf("{\"kind\": \"%s\", \"kernel\": \"%s\", \"processors\": %ld, "
	       "\"loop_instructions\": %llu, \"loop_counted\": %" PRIu64 "}\n",
	       dirty ? "dirty-machine" : "machine", name.release,
	       sysconf(_SC_NPROCESSORS_ONLN), LOOP_INSTRUCTIONS, count_known_loop());
	fflush(stdout);
}

/* --- options ------------------------------------------------------------- */

static void usage(FILE *out)
{
	fputs("Usage: pgsize-bench [--dirty] [--backend NAME] [--memory KIND] [--mib N]\n"
	      "                    [--rounds N] [--device PCI-ADDRESS]\n"
	      "\n"
	      "Maps and unmaps memory for a device that is bound to vfio-pci, with each of\n"
	      "the kernel's backends, and prints the cost of each call: a JSON object a line.\n"
	      "Costs are instructions, if QEMU runs with -icount shift=0; the first line,\n"
	      "with the count of a loop of known length, verifies that.\n"
	      "\n"
	      "  --dirty    measure dirty tracking instead, of an IOMMU that has dirty bits\n"
	      "  --backend  type1, type1-4k (disable_hugepages=1), iommufd, iommufd-4k\n"
	      "             (IOMMU_OPTION_HUGE_PAGES=0), pgsize, pgsize-4k (4K policy),\n"
	      "             pinning (no backend: pin_user_pages_fast alone);\n"
	      "             default: all that the kernel has\n"
	      "  --memory   hugetlb, thp, sequential, scattered (4K pages, faulted in in\n"
	      "             order or at random); default: all\n"
	      "  --mib      size of the mapping (default 256), a multiple of 2\n"
	      "  --rounds   measurements of each (default 5)\n"
	      "  --device   default 0000:00:03.0\n", out);
}

static unsigned long number(const char *text, unsigned long min, unsigned long max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	errno = 0;
	if (*end || end == text || value < min || value > max)
		die("'%s' is not a number from %lu to %lu", text, min, max);
	return value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dirty", no_argument, NULL, 't' },
		{ "backend", required_argument, NULL, 'b' },
		{ "memory", required_argument, NULL, 'k' },
		{ "mib", required_argument, NULL, 'm' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "device", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	const char *only_backend = NULL, *only_memory = NULL;
	unsigned int measured = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (option) {
		case 't':
			dirty = true;
			break;
		case 'b':
			only_backend = optarg;
			break;
		case 'k':
			only_memory = optarg;
			break;
		case 'm':
			size = number(optarg, 2, 65536) / 2 * HUGE_PAGE;
			break;
		case 'r':
			rounds = number(optarg, 1, MAX_ROUNDS);
			break;
		case 'd':
			device = optarg;
			break;
		default:
			usage(option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
	if (optind != argc) {
		usage(stderr);
		return 2;
	}

	print_machine();
	for (enum memory_kind kind = 0; kind < MEMORY_KINDS; kind++)
		if (is_chosen(only_memory, memory_names[kind]))
			measured += measure_backends(kind, only_backend);
	if (!measured) {
		errno = 0;
		die("nothing was measured: no such backend or memory");
	}
	return 0;
}
