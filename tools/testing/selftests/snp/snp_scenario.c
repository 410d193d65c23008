// SPDX-License-Identifier: GPL-2.0
/*
 * One guest's life with each way of mapping its memory for a device: what happens to DMA to
 * shared pages while RMP entries are smashed, shared and assigned. This is the reason for
 * vfio_pgsize, and the proof that it works.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "cost.h"
#include "kselftest.h"
#include "module.h"
#include "oracle.h"
#include "phases.h"
#include "rmp.h"
#include "units.h"

/* A way to map the guest's memory. */
struct backend {
	const char *name;
	unsigned long type;
	const char *parameters;	/* of vfio_pgsize; NULL: not loaded */
	bool small;		/* vfio_iommu_type1's disable_hugepages */
	uint64_t sizes;		/* vfio_pgsize's policy; 0: none is set ... */
	uint32_t flags;		/* ... and its flags */
	bool stateful;		/* the VMM sets which pages are shared */
	bool hazard;		/* whether DMA is expected to fail */
};

#define FOLLOW	(VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT | VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE)

static const struct backend backends[] = {
	{ "type1", VFIO_TYPE1v2_IOMMU, .hazard = true },
	{ "type1, disable_hugepages", VFIO_TYPE1v2_IOMMU, .small = true },
	{ "vfio_pgsize, no policy", VFIO_PGSIZE_IOMMU, "", .hazard = true },
	{ "vfio_pgsize, 4K", VFIO_PGSIZE_IOMMU, "", .sizes = ONLY_4K },
	{ "vfio_pgsize, follow", VFIO_PGSIZE_IOMMU, "", .sizes = ANY_SIZE, .flags = FOLLOW },
	{ "type1v2, default_follow", VFIO_TYPE1v2_IOMMU, "serve_type1v2=1 default_follow=1" },
	{ "vfio_pgsize, states", VFIO_PGSIZE_IOMMU, "", .sizes = UPTO_2M, .stateful = true },
};

struct figures {
	struct {
		unsigned long done;
		unsigned long failed;
		uint64_t events;
	} phase[NR_PHASES];
	uint64_t leaves_4k;
	uint64_t leaves_2m;
	uint64_t leaves_other;
	uint64_t tables;
	uint64_t map_cost;
	uint64_t smash_cost;
};

/* Whether the clock counts instructions (vm.py --icount). */
static bool counting;

static problem set_small(bool on)
{
	FILE *file = fopen("/sys/module/vfio_iommu_type1/parameters/disable_hugepages", "w");

	if (!file || fprintf(file, "%d\n", on) < 0 || fclose(file))
		return problem_is("vfio_iommu_type1's disable_hugepages: %m");
	return NULL;
}

static problem count_leaves(struct vmm *vmm, struct figures *figures)
{
	struct leaves leaves = {};
	problem wrong = oracle_list(vmm->devices[0].bdf, &leaves, &figures->tables);

	for (size_t i = 0; !wrong && i < leaves.nr; i++) {
		const struct vfio_pgsize_run *run = &leaves.runs[i];
		uint64_t nr = run->size / run->pgsize;

		if (run->iova >= SCRATCH_IOVA)
			continue;
		if (run->pgsize == PAGE)
			figures->leaves_4k += nr;
		else if (run->pgsize == MIB(2))
			figures->leaves_2m += nr;
		else
			figures->leaves_other += nr;
	}
	leaves_free(&leaves);
	return wrong;
}

/* A line of the report; a comment in TAP. */
static bool tap = true;

static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (tap)
		fputs("# ", stdout);
	vprintf(format, args);
	putchar('\n');
	fflush(stdout);
	va_end(args);
}

static problem run_phase(struct life *life, int nr, struct figures *figures)
{
	unsigned long done, failed;
	struct rmp_counts before, after;
	problem wrong;

	/* The device pauses between phases. */
	life_rest(life, true);
	done = life->done;
	failed = life->failed;
	wrong = rmp_counts(&before);
	life_rest(life, false);
	if (!wrong)
		wrong = phases[nr].run(life);
	life_rest(life, true);
	if (!wrong)
		wrong = rmp_counts(&after);
	if (wrong)
		return wrong;
	figures->phase[nr].done = life->done - done;
	figures->phase[nr].failed = life->failed - failed;
	figures->phase[nr].events = after.dma_faults - before.dma_faults;
	return NULL;
}

static problem live(struct vmm *vmm, uint8_t *memory, struct pages *pages, struct figures *figures)
{
	static struct life life;
	problem wrong, at_end;

	cost_of_smash = UINT64_MAX;
	wrong = life_start(&life, vmm, memory, pages);
	for (int nr = 0; !wrong && nr < NR_PHASES; nr++) {
		wrong = run_phase(&life, nr, figures);
		if (!wrong)
			say("  %-26s %5lu DMAs done, %5lu failed", phases[nr].name,
			    figures->phase[nr].done, figures->phase[nr].failed);
		if (!wrong && pages)
			wrong = pages_agree(pages);
		if (wrong)
			wrong = problem_is("%s: %s", phases[nr].name, wrong);
	}
	figures->smash_cost = cost_of_smash;
	if (!wrong)
		wrong = count_leaves(vmm, figures);
	at_end = life_stop(&life);
	return wrong ? wrong : at_end;
}

static problem run(const struct backend *backend, struct figures *figures)
{
	const uint32_t stateful = STATEFUL | VFIO_PGSIZE_MAP_SHARED;
	struct pages pages = {};
	struct memory memory = {};
	struct vmm vmm;
	problem wrong, at_end;
	uint64_t start;

	wrong = module_serve(backend->parameters);
	if (!wrong)
		wrong = set_small(backend->small);
	if (!wrong)
		wrong = memory_alloc(&memory, HUGETLB_2M, LIFE_SIZE);
	if (!wrong)
		wrong = vmm_open(&vmm, backend->type, 1);
	if (!wrong && backend->sizes)
		wrong = vmm_policy(&vmm, backend->flags, backend->sizes);
	if (!wrong && backend->stateful)
		wrong = pages_start(&pages, &vmm, LIFE_IOVA, &memory, backend->sizes);
	if (wrong)
		return wrong;
	pages.others = 1;		/* the device's scratch page */
	pages.pinned = LIFE_PAGES;	/* by the guest */
	vmm.faults_expected = backend->hazard;
	if (counting)
		wait_until_counting();
	start = instructions();
	wrong = vmm_map(&vmm, LIFE_IOVA, memory.va, LIFE_SIZE,
			READ_WRITE | (backend->stateful ? stateful : 0));
	figures->map_cost = instructions() - start;
	if (!wrong && backend->stateful)
		wrong = pages_note(&pages, CHANGES({ 0, LIFE_SIZE, SHARED }));
	if (!wrong)
		wrong = live(&vmm, memory.va, backend->stateful ? &pages : NULL, figures);
	pages_free(&pages);
	at_end = vmm_close(&vmm);
	memory_free(&memory);
	huge_pages_release();
	return wrong ? wrong : at_end;
}

/* Whether DMA failed where it must, and nowhere else. */
static problem judge(const struct backend *backend, const struct figures *figures)
{
	for (int nr = 0; nr < NR_PHASES; nr++) {
		enum hazard hazard = backend->hazard ? phases[nr].hazard : NEVER;
		unsigned long failed = figures->phase[nr].failed;
		uint64_t events = figures->phase[nr].events;

		if (!figures->phase[nr].done && hazard == NEVER)
			return problem_is("%s: no DMA was done", phases[nr].name);
		if (hazard == NEVER && (failed || events))
			return problem_is("%s: %lu DMAs failed, with %lu events of the RMP",
					  phases[nr].name, failed, events);
		if (hazard == SURELY && (!failed || !events))
			return problem_is("%s: DMA is to fail, and does not", phases[nr].name);
		if (failed != events)
			return problem_is("%s: %lu DMAs failed, yet there were %lu events",
					  phases[nr].name, failed, events);
	}
	return NULL;
}

static const char *cost(uint64_t instructions, char text[24])
{
	snprintf(text, 24, counting ? "%" PRIu64 : "-", instructions);
	return text;
}

static void print_sum(const struct backend *backend, const struct figures *figures)
{
	unsigned long done = 0, failed = 0;
	char map[24], smash[24];
	uint64_t events = 0;

	for (int nr = 0; nr < NR_PHASES; nr++) {
		done += figures->phase[nr].done;
		failed += figures->phase[nr].failed;
		events += figures->phase[nr].events;
	}
	say("%-24s %6lu %6lu %6" PRIu64 " %6" PRIu64 " %4" PRIu64 " %5" PRIu64 " %6" PRIu64
	    " %9s %6s", backend->name, done, failed, events, figures->leaves_4k,
	    figures->leaves_2m, figures->leaves_other, figures->tables,
	    cost(figures->map_cost, map), cost(figures->smash_cost, smash));
}

static void print_table(const struct figures *figures)
{
	say("%s", "");
	say("%-24s %13s %6s %17s %6s %16s", "", "DMAs", "RMP", "leaves, at end", "table",
	    "instructions");
	say("%-24s %6s %6s %6s %6s %4s %5s %6s %9s %6s", "", "done", "failed", "events", "4K",
	    "2M", "other", "pages", "map", "smash");
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		print_sum(&backends[i], &figures[i]);
}

/* Run the phases with a backend, and return whether all was as expected. */
static bool live_against(const struct backend *backend, struct figures *figures)
{
	problem wrong;

	say("%s", "");
	say("%s", backend->name);
	wrong = run(backend, figures);
	if (!wrong)
		wrong = judge(backend, figures);
	if (wrong)
		say("  WRONG: %s", wrong);
	if (tap)
		ksft_test_result(!wrong, "%s: DMA to shared pages %s\n", backend->name,
				 backend->hazard ? "fails where a 2M is mixed" : "never fails");
	return !wrong;
}

static const char usage[] =
	"Usage: snp_scenario [--report]\n"
	"\n"
	"Runs a guest's life on an SNP host (vm.py --snp, load_vfio, bind_edu,\n"
	"load_snp_host) against each way of mapping its memory, and prints what became\n"
	"of DMA, in TAP: a test for each way.\n"
	"\n"
	"  --report  the report alone\n";

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "report", no_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	struct figures figures[ARRAY_SIZE(backends)] = {};
	bool sound = true;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'r') {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
		tap = false;
	}
	counting = wait_until_counting();
	if (tap) {
		ksft_print_header();
		ksft_set_plan(ARRAY_SIZE(backends));
	}
	say("A guest of %llu MiB on an SNP host. All of its memory is mapped for a device (with page",
	    LIFE_SIZE >> 20);
	say("states: what it shares), which does DMA to the pages that it shares, all the time.");
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		sound &= live_against(&backends[i], &figures[i]);
	print_table(figures);
	if (tap)
		ksft_print_cnts();
	return sound ? 0 : 1;
}
