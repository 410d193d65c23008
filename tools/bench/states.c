// SPDX-License-Identifier: GPL-2.0
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "clock.h"
#include "units.h"
#include "workload.h"

#define SHARED		VFIO_PGSIZE_STATE_SHARED
#define PRIVATE		VFIO_PGSIZE_STATE_PRIVATE

/* Number of changes in a call. */
#define BATCH		512
#define ROUNDS		5
/* Where memory of other kinds is mapped. */
#define AT_TOO		(AT + 2 * RANGE)
/* A 2M of the range that the workload does not use. */
#define PROBE		(SPREAD / 2)

#define TRY(call) do {			\
	problem __wrong = (call);	\
					\
	if (__wrong)			\
		return __wrong;		\
} while (0)

static uint64_t changes = 1000000;
static uint64_t type1_changes = 100000;
static bool ask_oracle = true;

static struct workload workload;
static struct vmm vmm;
static uint32_t *costs;		/* for each change of the workload */

static void print_cost(const char *work, const char *memory, uint64_t instructions, uint64_t count)
{
	printf("{\"kind\": \"state\", \"work\": \"%s\", \"memory\": \"%s\", \"instructions\": %" PRIu64
	       ", \"count\": %" PRIu64 "}\n", work, memory, instructions, count);
	fflush(stdout);
}

/* Makes changes, with this many in a call, and returns the cost. */
static problem change(const struct vfio_pgsize_state *states, uint32_t nr, uint32_t at_once,
		      uint64_t *cost)
{
	for (uint32_t i = 0; i < nr; i += at_once) {
		uint32_t done = at_once;
		uint64_t start = instructions();
		int ret = set_state(vmm.container, states + i, &done);

		*cost += instructions() - start;
		if (ret)
			return problem_is("SET_STATE at %#llx: %s, %u of %u done", states[i].iova,
					  strerror(-ret), done, at_once);
	}
	return NULL;
}

/* BATCH pages, `stride` pages apart. */
static void fill(struct vfio_pgsize_state *states, uint64_t iova, uint64_t stride, uint64_t size,
		 uint32_t state)
{
	for (uint64_t i = 0; i < BATCH; i++)
		states[i] = (struct vfio_pgsize_state){
			.iova = iova + i * stride,
			.size = size,
			.state = state,
		};
}

/* There and back; the minimum of some rounds. */
static problem there_and_back(uint64_t iova, uint64_t stride, uint64_t size, uint32_t at_once,
			      uint64_t *share, uint64_t *unshare)
{
	static struct vfio_pgsize_state states[BATCH];

	*share = *unshare = UINT64_MAX;
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t there = 0, back = 0;

		fill(states, iova, stride, size, SHARED);
		TRY(change(states, BATCH, at_once, &there));
		fill(states, iova, stride, size, PRIVATE);
		TRY(change(states, BATCH, at_once, &back));
		*share = there < *share ? there : *share;
		*unshare = back < *unshare ? back : *unshare;
	}
	return NULL;
}

static problem map_stateful(uint64_t iova, const struct memory *memory)
{
	return vmm_map(&vmm, iova, memory->va, memory->size, READ_WRITE | VFIO_PGSIZE_MAP_STATEFUL);
}

/* Every other page, in one call, and in a call for each; and a whole 2M, page by page. */
static problem measure_pages(const char *name, uint64_t iova)
{
	static const struct {
		const char *share, *unshare;
		uint64_t stride;
		uint32_t at_once;
	} works[] = {
		{ "share-batch", "unshare-batch", 2 * PAGE, BATCH },
		{ "share-one", "unshare-one", 2 * PAGE, 1 },
		{ "share-2m-batch", "unshare-2m-batch", PAGE, BATCH },
	};
	uint64_t share, unshare;

	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
		TRY(there_and_back(iova, works[i].stride, PAGE, works[i].at_once, &share, &unshare));
		print_cost(works[i].share, name, share, BATCH);
		print_cost(works[i].unshare, name, unshare, BATCH);
	}
	return NULL;
}

static problem measure_kinds(void)
{
	static const struct {
		const char *name;
		enum backing backing;
	} kinds[] = { { "memfd", MEMFD }, { "anon", ANON_4K }, { "hugetlb", HUGETLB_2M } };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct memory memory;

		TRY(memory_alloc(&memory, kinds[i].backing, MIB(4)));
		TRY(map_stateful(AT_TOO, &memory));
		TRY(measure_pages(kinds[i].name, AT_TOO));
		TRY(dma_unmap_exactly(vmm.container, AT_TOO, MIB(4)));
		memory_free(&memory);
	}
	return NULL;
}

/* A guest that boots shares a gigabyte in pieces of 2M, and takes it back. */
static problem measure_boot(void)
{
	uint64_t share, unshare;

	TRY(there_and_back(AT, SPREAD, MIB(2), BATCH, &share, &unshare));
	print_cost("share-boot", "hugetlb", share, BATCH);
	print_cost("unshare-boot", "hugetlb", unshare, BATCH);
	return NULL;
}

/* At a checkpoint: the cost of the last changes, and of the probe, which is always the same. */
static problem checkpoint(uint64_t done, uint64_t pages, uint64_t last, uint64_t last_cost)
{
	uint64_t share, unshare;

	TRY(there_and_back(AT + PROBE, PAGE, PAGE, BATCH, &share, &unshare));
	TRY(workload_agrees(&workload, &vmm, ask_oracle && done == changes));
	printf("{\"kind\": \"checkpoint\", \"changes\": %" PRIu64 ", \"pages\": %" PRIu64
	       ", \"shared\": %" PRIu64 ", \"last\": %" PRIu64 ", \"last_instructions\": %" PRIu64
	       ", \"probe_share\": %" PRIu64 ", \"probe_unshare\": %" PRIu64 ", \"probe_pages\": %d}\n",
	       done, pages, workload.nr_shared, last, last_cost, share, unshare, BATCH);
	fflush(stdout);
	return NULL;
}

/* The workload, with one change in a call. */
static problem run_workload(void)
{
	uint64_t pages = 0, last_cost = 0, since = 0, next = changes / 100;

	workload_start(&workload, workload.memory);
	TRY(checkpoint(0, 0, 0, 0));
	for (uint64_t done = 1; done <= changes; done++) {
		struct piece piece = workload_next(&workload);
		struct vfio_pgsize_state state = {
			.iova = AT + offset_of(piece.first),
			.size = piece.pages * PAGE,
			.state = piece.share ? SHARED : PRIVATE,
		};
		uint64_t cost = 0;

		TRY(change(&state, 1, 1, &cost));
		workload_note(&workload, piece);
		costs[done - 1] = cost;
		pages += piece.pages;
		/* The cost of the last tenth before a checkpoint. */
		if (done > next - next / 10) {
			last_cost += cost;
			since++;
		}
		if (done == next) {
			TRY(checkpoint(done, pages, since, last_cost));
			next *= 10;
			last_cost = since = 0;
		}
	}
	return NULL;
}

static problem measure_states(void)
{
	TRY(vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1));
	TRY(vmm_policy(&vmm, 0, UPTO_2M));
	TRY(measure_kinds());
	TRY(map_stateful(AT, &workload.memory));
	TRY(measure_boot());
	TRY(run_workload());
	TRY(dma_unmap_exactly(vmm.container, AT, RANGE));
	return vmm_close(&vmm);
}

static problem measure_type1(enum manner manner, const char *name)
{
	struct piecewise result;
	uint64_t ours = 0;

	TRY(vmm_open(&vmm, VFIO_TYPE1v2_IOMMU, 1));
	TRY(piecewise_run(&workload, &vmm, manner, type1_changes, &result));
	for (uint64_t i = 0; i < result.changes; i++)
		ours += costs[i];
	printf("{\"kind\": \"piecewise\", \"manner\": \"%s\", \"changes\": %" PRIu64
	       ", \"instructions\": %" PRIu64 ", \"states_instructions\": %" PRIu64
	       ", \"mappings\": %" PRIu64 ", \"pages_lost\": %" PRIu64 ", \"error\": \"%s\"}\n",
	       name, result.changes, result.instructions, ours, result.mappings,
	       result.pages_lost, result.error ? strerror(result.error) : "");
	fflush(stdout);
	return vmm_close(&vmm);
}

static problem measure(void)
{
	TRY(workload_memory(&workload.memory));
	/* The probe's page. */
	workload.memory.va[PROBE] = 1;
	TRY(measure_states());
	TRY(measure_type1(PER_PAGE, "page"));
	return measure_type1(PER_PIECE, "piece");
}

static const char usage[] =
	"Usage: pgsize-states [--changes N] [--type1-changes N] [--no-oracle]\n"
	"\n"
	"Converts 1 GiB of memory, scattered in a range of 16 GiB, between shared and\n"
	"private in random pieces of 4K to 2M, with VFIO_PGSIZE_SET_STATE, and prints\n"
	"the cost: a JSON object a line; in instructions, if QEMU runs with -icount\n"
	"shift=0. At checkpoints the leaves must equal a model. Then the same with type1,\n"
	"a mapping for each piece or for each page, until it fails.\n"
	"\n"
	"  --changes N        changes of the workload (default 1000000, a multiple of 100)\n"
	"  --type1-changes N  maximum number of them on type1 (default 100000)\n"
	"  --no-oracle        compare with the model by QUERY alone\n";

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "changes", required_argument, NULL, 'c' },
		{ "type1-changes", required_argument, NULL, 't' },
		{ "no-oracle", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	struct utsname name;
	problem wrong;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			changes = strtoull(optarg, NULL, 0);
			break;
		case 't':
			type1_changes = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			ask_oracle = false;
			break;
		default:
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
	}
	if (optind != argc || !changes || changes % 100)
		return fputs(usage, stderr), 2;
	if (type1_changes > changes)
		type1_changes = changes;
	costs = calloc(changes, sizeof(*costs));
	if (!costs)
		abort();
	uname(&name);
	printf("{\"kind\": \"states-machine\", \"kernel\": \"%s\", \"loop_instructions\": %llu, "
	       "\"loop_counted\": %" PRIu64 "}\n", name.release, LOOP_INSTRUCTIONS,
	       count_known_loop());
	wrong = measure();
	if (wrong)
		fprintf(stderr, "pgsize-states: %s\n", wrong);
	return !!wrong;
}
