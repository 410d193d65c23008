// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "follow.h"
#include "text.h"
#include "units.h"
#include "wait.h"

problem follow_has(struct vmm *vmm, const struct mapped *mapped, int nr, int devices)
{
	struct leaves expected = {};
	problem wrong = NULL;

	for (int i = 0; !wrong && i < nr; i++) {
		for (uint64_t at = 0; !wrong && at < mapped[i].size; at += MIB(2)) {
			bool small = mapped[i].small >> at / MIB(2) & 1;

			wrong = leaves_tile(&expected, mapped[i].iova + at, mapped[i].va + at,
					    MIB(2), small ? ONLY_4K : UPTO_2M, READ_WRITE);
		}
	}
	for (int i = 0; i < devices; i++)
		leaves_add(&expected, SCRATCH_IOVA + i * PAGE, PAGE, PAGE, READ_WRITE);
	if (!wrong)
		wrong = vmm_has_leaves(vmm, &expected);
	leaves_free(&expected);
	return wrong;
}

problem follow_has_soon(struct vmm *vmm, const struct mapped *mapped, int nr, int devices)
{
	struct wait wait = {};
	problem wrong;

	/* The oracle stops the machine: do not ask too often. */
	do {
		wrong = follow_has(vmm, mapped, nr, devices);
	} while (wrong && wait_more(&wait, 10 * MOMENT));
	return wrong;
}

problem follow_agrees(struct vmm *vmm, int domains)
{
	struct vfio_pgsize_run run;

	for (int i = 0; i < domains; i++) {
		struct vfio_pgsize_query query = {
			.argsz = sizeof(query),
			.flags = VFIO_PGSIZE_QUERY_MISMATCH,
			.domain = i,
			.size = EVERYWHERE,
			.nr = 1,
			.runs = (uintptr_t)&run,
		};

		if (ioctl(vmm->container, VFIO_PGSIZE_QUERY, &query))
			return problem_is("the audit of domain %d: %m", i);
		if (query.nr)
			return problem_is("domain %d has a leaf of %#llx at %#llx that disagrees with the RMP",
					  i, run.pgsize, run.iova);
	}
	return NULL;
}

int follow_mismatches(int container, uint64_t iova, uint64_t size)
{
	struct vfio_pgsize_run runs[16];
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.flags = VFIO_PGSIZE_QUERY_MISMATCH,
		.iova = iova,
		.size = size,
		.nr = sizeof(runs) / sizeof(runs[0]),
		.runs = (uintptr_t)runs,
	};
	int leaves = 0;

	if (ioctl(container, VFIO_PGSIZE_QUERY, &query))
		return -1;
	for (uint32_t i = 0; i < query.nr; i++)
		leaves += runs[i].size / runs[i].pgsize;
	return leaves;
}

problem follow_stats(struct vmm *vmm, struct vfio_pgsize_stats *stats)
{
	return get_stats(vmm->container, stats) ? problem_is("GET_STATS: %m") : NULL;
}

problem follow_counted(struct vmm *vmm, const struct vfio_pgsize_stats *before, uint64_t splits,
		       uint64_t merges)
{
	struct vfio_pgsize_stats now;
	problem wrong = follow_stats(vmm, &now);

	if (wrong || (now.splits - before->splits == splits &&
		      now.merges - before->merges == merges && !now.fallbacks && !now.repairs))
		return wrong;
	return problem_is("%llu splits and %llu merges were counted, not %lu and %lu; "
			  "%llu fallbacks, %llu repairs", now.splits - before->splits,
			  now.merges - before->merges, splits, merges, now.fallbacks, now.repairs);
}

bool follow_is_hooked(void)
{
	FILE *file = fopen("/sys/kernel/tracing/enabled_functions", "r");
	bool hooked = false;
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		hooked |= !strncmp(line, "psmash ", 7);
	if (file)
		fclose(file);
	return hooked;
}

#define DEBUGFS	"/sys/kernel/debug/vfio_pgsize/"

static long number_in(const char *path)
{
	char *text = text_read(path);
	long number = text ? strtol(text, NULL, 0) : -1;

	free(text);
	return number;
}

long follow_followers(void)
{
	return number_in(DEBUGFS "followers");
}

long follow_registrations(void)
{
	return number_in(DEBUGFS "hooked");
}

problem follow_ends(void)
{
	struct wait wait = {};

	while (follow_is_hooked())
		if (!wait_more(&wait, MOMENT))
			return "psmash is probed still";
	return NULL;
}

static void *probe(void *arg)
{
	struct prober *prober = arg;

	while (!prober->stop && !prober->wrong) {
		for (int page = 0; page < PROBED && !prober->stop; page++) {
			struct access access = {};
			uint64_t at = page * PAGE;
			problem wrong;

			prober->page = page;
			if (prober->skipped[page])
				continue;
			wrong = device_try(prober->device, prober->iova + at, prober->va + at, &access);
			if (wrong) {
				snprintf(prober->text, sizeof(prober->text), "%s", wrong);
				prober->wrong = prober->text;
				break;
			}
			prober->done += access.read + access.written;
			prober->lost += !access.read + !access.written;
			prober->page = -1;
		}
		prober->rounds++;
	}
	prober->page = -1;
	return NULL;
}

problem prober_start(struct prober *prober, struct device *device, uint64_t iova,
		     const uint8_t *va)
{
	return prober_start_among(prober, device, iova, va, PROBED, 0, 1);
}

problem prober_start_among(struct prober *prober, struct device *device, uint64_t iova,
			   const uint8_t *va, int pages, int index, int nr)
{
	memset(prober, 0, sizeof(*prober));
	for (int page = 0; page < PROBED; page++)
		prober->skipped[page] = page >= pages || page % nr != index;
	prober->page = -1;
	prober->device = device;
	prober->iova = iova;
	prober->va = va;
	return pthread_create(&prober->thread, NULL, probe, prober) ?
		problem_is("no thread for the device") : NULL;
}

problem prober_stop(struct prober *prober)
{
	prober->stop = true;
	pthread_join(prober->thread, NULL);
	if (prober->wrong)
		return prober->wrong;
	if (prober->lost || !prober->done)
		return problem_is("%lu transfers were done, and %lu lost", prober->done,
				  prober->lost);
	return NULL;
}

void prober_skip(struct prober *prober, int page, bool on)
{
	prober->skipped[page] = on;
	while (on && prober->page == page && !prober->wrong)
		usleep(MOMENT);
}
