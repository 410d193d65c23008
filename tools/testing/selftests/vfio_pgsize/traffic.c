// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>

#include "traffic.h"
#include "units.h"

static uint64_t some_page(struct traffic *traffic)
{
	traffic->random = traffic->random * 1664525 + 1013904223;
	return (traffic->random >> 8) % traffic->pages * traffic->stride;
}

static void *move_bytes(void *arg)
{
	struct traffic *traffic = arg;
	int copies;

	for (copies = 0; copies < traffic->wanted; copies++) {
		uint64_t from = some_page(traffic), to = some_page(traffic);
		problem wrong;

		if (from == to)
			to = from ? 0 : traffic->stride;
		wrong = edu_copy(traffic->edu, traffic->iova + from, traffic->va + from,
				 traffic->iova + to, traffic->va + to, PAGE);
		if (wrong) {
			snprintf(traffic->wrong, sizeof(traffic->wrong), "%s", wrong);
			break;
		}
		__atomic_add_fetch(&traffic->copies, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

problem traffic_start(struct traffic *traffic)
{
	return pthread_create(&traffic->thread, NULL, move_bytes, traffic) ?
		problem_is("no thread for the device") : NULL;
}

bool traffic_goes_on(const struct traffic *traffic)
{
	return !traffic->wrong[0] &&
	       __atomic_load_n(&traffic->copies, __ATOMIC_RELAXED) < traffic->wanted;
}

problem traffic_end(struct traffic *traffic)
{
	pthread_join(traffic->thread, NULL);
	if (traffic->wrong[0])
		return problem_is("%s", traffic->wrong);
	if (traffic->copies != traffic->wanted)
		return problem_is("%d of %d copies were made", traffic->copies, traffic->wanted);
	return NULL;
}
