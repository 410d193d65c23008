// SPDX-License-Identifier: GPL-2.0
/*
 * Two threads at random: one is the guest, and changes the RMP; the other is a VMM that maps,
 * unmaps, sets policies, attaches and detaches. Meanwhile a device accesses memory that is always
 * mapped, followed and shared. From time to time both pause, and the page table must agree with
 * the known state of the RMP.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "follow.h"
#include "guest.h"
#include "kselftest.h"
#include "module.h"
#include "oracle.h"
#include "rmp.h"
#include "units.h"
#include "wait.h"

#define TRY(call) do {			\
	problem __wrong = (call);	\
					\
	if (__wrong)			\
		return __wrong;		\
} while (0)

/* Pieces of 2M; the device uses the first pages of the last one. */
#define PIECES		9
#define LAST		(PIECES - 1)
#define DEVICE_PAGES	64
#define SIZE		(PIECES * MIB(2))

/* Where the pieces except the last may be mapped, each as a whole mapping. */
#define WINDOWS		2
static const uint64_t windows[WINDOWS] = { GIB(4), GIB(8) };
#define LAST_AT		GIB(16)

/* Steps of each thread between two checks. */
#define STEPS		60

enum state { PIECE_SHARED, PIECE_PRIVATE, PIECE_MIXED };

static struct vmm vmm;
static struct guest guest;
static struct device device;
static struct prober prober;
static struct memory memory;

/* The guest's state. */
static struct piece {
	enum state state;
	bool assigned[512];	/* PIECE_MIXED */
	int nr;
} pieces[PIECES];

/* The VMM's state. */
static bool mapped[WINDOWS][LAST];
static bool follows;		/* otherwise the container's policy */
static bool attached;
static unsigned long steps, looks;

static unsigned int below(unsigned int *seed, unsigned int limit)
{
	return rand_r(seed) / 7 % limit;
}

static problem assign_page(int i, int page, bool on)
{
	struct piece *piece = &pieces[i];
	uint64_t gpa = i * MIB(2) + page * PAGE;

	if (piece->assigned[page] == on)
		return NULL;
	TRY(on ? guest_assign(&guest, gpa, false) : guest_share(&guest, gpa, false));
	piece->assigned[page] = on;
	piece->nr += on ? 1 : -1;
	piece->state = piece->nr ? PIECE_MIXED : PIECE_SHARED;
	return NULL;
}

static problem share_pages(int i)
{
	for (int page = 0; page < 512; page++)
		TRY(assign_page(i, page, false));
	return NULL;
}

static problem smash(int i)
{
	struct piece *piece = &pieces[i];

	TRY(guest_smash(&guest, i * MIB(2)));
	piece->state = PIECE_MIXED;
	piece->nr = 512;
	memset(piece->assigned, true, sizeof(piece->assigned));
	return NULL;
}

static problem make_private(int i, bool on)
{
	TRY(on ? guest_assign(&guest, i * MIB(2), true) : guest_share(&guest, i * MIB(2), true));
	pieces[i].state = on ? PIECE_PRIVATE : PIECE_SHARED;
	return NULL;
}

static problem guest_step(unsigned int *seed)
{
	int i = below(seed, PIECES), what = below(seed, 8);
	struct piece *piece = &pieces[i];

	if (i == LAST)
		return assign_page(i, DEVICE_PAGES + below(seed, 512 - DEVICE_PAGES), what < 4);
	switch (piece->state) {
	case PIECE_SHARED:
		if (what == 0) {
			/* Refused, but the hook does not know that yet. */
			return guest_smash(&guest, i * MIB(2)) ? NULL :
				problem_is("a shared 2M can be smashed");
		}
		if (what < 3)
			return make_private(i, false);
		return what < 6 ? make_private(i, true) : assign_page(i, below(seed, 512), true);
	case PIECE_PRIVATE:
		return what < 5 ? smash(i) : make_private(i, false);
	default:
		if (what < 2)
			return share_pages(i);
		return assign_page(i, below(seed, 512), what < 4);
	}
}

static problem set_policy(unsigned int *seed)
{
	static const uint64_t sizes[] = { UPTO_2M, UPTO_2M, ANY_SIZE, ANY_SIZE, ONLY_4K };
	static const uint32_t flags[] = { FOLLOW, FOLLOW, SPLIT, 0 };
	uint32_t flag = flags[below(seed, 4)];
	uint64_t size = sizes[below(seed, 5)];

	TRY(vmm_policy(&vmm, flag | (below(seed, 3) ? 0 : VFIO_PGSIZE_POLICY_APPLY), size));
	follows = flag && size != ONLY_4K;
	return NULL;
}

static problem vmm_step(unsigned int *seed)
{
	int window = below(seed, WINDOWS), i = below(seed, LAST), what = below(seed, 16);
	uint64_t iova = windows[window] + i * MIB(2);

	if (what == 0)
		return set_policy(seed);
	if (what == 1 && !below(seed, 4)) {
		attached = !attached;
		if (attached)
			return vmm_attach(&vmm, 1);
		vmm_detach(&vmm, 1);
		return NULL;
	}
	if (mapped[window][i])
		TRY(dma_unmap_exactly(vmm.container, iova, MIB(2)));
	else
		TRY(vmm_map(&vmm, iova, memory.va + i * MIB(2), MIB(2), READ_WRITE));
	mapped[window][i] = !mapped[window][i];
	return NULL;
}

struct worker {
	problem (*step)(unsigned int *seed);
	unsigned int seed;
	bool failed;
	char text[256];
};

static void *work(void *arg)
{
	struct worker *worker = arg;

	for (int i = 0; i < STEPS && !worker->failed; i++) {
		problem wrong = worker->step(&worker->seed);

		if (wrong) {
			snprintf(worker->text, sizeof(worker->text), "%s", wrong);
			worker->failed = true;
		}
	}
	return NULL;
}

/* The leaves of one piece: all of it is mapped, and none is too large. */
static problem look_at(struct leaves *all, uint64_t iova, int i, bool followed)
{
	struct leaves found = {};
	uint64_t covered = 0, phys;
	problem wrong;

	TRY(leaves_query(&found, vmm.container, 0, iova, MIB(2)));
	for (size_t run = 0; run < found.nr; run++) {
		covered += found.runs[run].size;
		if (found.runs[run].pgsize > MIB(2))
			return problem_is("a leaf crosses the end of a mapping at %#lx", iova);
		if (followed && pieces[i].state == PIECE_MIXED && found.runs[run].pgsize >= MIB(2))
			return problem_is("a large leaf at %#lx, where %d pages are assigned", iova,
					  pieces[i].nr);
	}
	leaves_free(&found);
	if (covered != MIB(2))
		return problem_is("of the 2M at %#lx %#lx bytes are mapped", iova, covered);
	wrong = memory_phys(memory.va + i * MIB(2), 1, &phys);
	/* The translation, for the oracle. */
	if (!wrong)
		leaves_tile_phys(all, iova, phys, MIB(2), PAGE, READ_WRITE);
	return wrong;
}

static problem look(void)
{
	struct leaves tiles = {}, found = {};
	problem wrong = NULL;

	for (int window = 0; window < WINDOWS; window++)
		for (int i = 0; i < LAST && !wrong; i++)
			if (mapped[window][i])
				wrong = look_at(&tiles, windows[window] + i * MIB(2), i, follows);
	if (!wrong)
		wrong = look_at(&tiles, LAST_AT, LAST, true);
	if (!wrong)
		wrong = leaves_query(&found, vmm.container, 0, 0, EVERYWHERE);
	if (!wrong) {
		memcpy(found.at, tiles.at, sizeof(tiles.at));
		found.nr_at = tiles.nr_at;
		wrong = vmm_has_leaves(&vmm, &found);
	}
	leaves_free(&tiles);
	leaves_free(&found);
	looks++;
	return wrong;
}

/*
 * The merge of pages that became shared one by one comes later, perhaps between QUERY and
 * the oracle's read: they may disagree for a moment. A leaf that is too large is an error at
 * once.
 */
static problem look_again(void)
{
	struct wait wait = {};
	problem wrong;

	do {
		wrong = look();
	} while (wrong && (strstr(wrong, "QUERY") || strstr(wrong, "oracle")) &&
		 wait_more(&wait, 100 * MOMENT));
	return wrong;
}

static problem start(void)
{
	TRY(module_require(""));
	TRY(memory_alloc(&memory, HUGETLB_2M, SIZE));
	fill_with_pattern(memory.va, SIZE);
	TRY(vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1));
	TRY(device_start(&device, &vmm, 0));
	TRY(guest_start(&guest, memory.va, SIZE));
	if (policy_set(vmm.container, VFIO_PGSIZE_POLICY_RANGE | FOLLOW, LAST_AT, MIB(2), UPTO_2M))
		return problem_is("the policy of the device's range: %m");
	TRY(vmm_map(&vmm, LAST_AT, memory.va + LAST * MIB(2), MIB(2), READ_WRITE));
	TRY(prober_start_among(&prober, &device, LAST_AT, memory.va + LAST * MIB(2), DEVICE_PAGES,
			       0, 1));
	return NULL;
}

static problem stop(void)
{
	problem wrong = prober_stop(&prober), at_end;

	guest_stop(&guest);
	device_stop(&device);
	at_end = vmm_close(&vmm);
	memory_free(&memory);
	huge_pages_release();
	if (!wrong && !at_end)
		return follow_ends();
	return wrong ? wrong : at_end;
}

static problem run(unsigned int seed, time_t seconds)
{
	struct worker workers[] = {
		{ guest_step, .seed = seed * 2 + 1 }, { vmm_step, .seed = seed * 2 + 2 },
	};
	time_t end = time(NULL) + seconds;

	while (time(NULL) < end) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, work, &workers[0]))
			return problem_is("no thread");
		work(&workers[1]);
		pthread_join(thread, NULL);
		steps += 2 * STEPS;
		for (int i = 0; i < 2; i++)
			if (workers[i].failed)
				return problem_is("%s", workers[i].text);
		TRY(look_again());
		if (prober.wrong || prober.lost)
			return problem_is("the device: %s, %lu transfers lost",
					  prober.wrong ? prober.wrong : "at work", prober.lost);
	}
	return NULL;
}

static const char usage[] =
	"Usage: snp_random_test [--seed N] [--seconds N]\n"
	"\n"
	"On an SNP host (vm.py --snp, load_vfio, bind_edu, load_snp_host): the RMP is\n"
	"changed and memory is mapped at random; leaves must follow.\n";

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	unsigned int seed = time(NULL) ^ getpid();
	struct vfio_pgsize_stats stats = {};
	time_t seconds = 45;
	problem wrong;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's') {
			seed = strtoul(optarg, NULL, 0);
		} else if (option == 't') {
			seconds = strtoul(optarg, NULL, 0);
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
	}
	ksft_print_header();
	ksft_set_plan(2);
	ksft_print_msg("--seed %u\n", seed);
	wrong = start();
	if (!wrong)
		wrong = run(seed, seconds);
	if (!wrong)
		wrong = follow_stats(&vmm, &stats);
	if (wrong)
		ksft_print_msg("after %lu steps: %s\n", steps, wrong);
	ksft_test_result(!wrong, "leaves agree with the RMP at all times\n");
	ksft_print_msg("%lu steps, %lu looks, %lu transfers; %llu splits, %llu merges, %llu lost\n",
		       steps, looks, prober.done, stats.splits, stats.merges, stats.fallbacks);
	wrong = stop();
	if (wrong)
		ksft_print_msg("%s\n", wrong);
	ksft_test_result(!wrong, "no transfer is lost, and nothing is left behind\n");
	ksft_finished();
}
