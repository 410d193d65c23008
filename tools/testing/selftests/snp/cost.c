// SPDX-License-Identifier: GPL-2.0
#include <time.h>

#include "backing.h"
#include "clock.h"
#include "cost.h"
#include "units.h"

bool wait_until_counting(void)
{
	const struct timespec pause = { .tv_nsec = 100000000 };

	for (int i = 0; i < 20; i++) {
		uint64_t loop = count_known_loop();

		if (loop > LOOP_INSTRUCTIONS * 99 / 100 && loop < LOOP_INSTRUCTIONS * 101 / 100)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* All pages, with bare instructions, which no hook sees, so that no work is queued. */
static problem share_silently(struct guest *guest, uint64_t gpa)
{
	struct snp_host_raw raw = { .insn = SNP_HOST_RMPUPDATE };
	uint64_t phys;
	problem wrong = memory_phys(guest->va + gpa, 1, &phys);

	for (uint64_t at = 0; !wrong && at < MIB(2); at += PAGE) {
		raw.spa = phys + at;
		if (guest_execute(guest, &raw))
			wrong = problem_is("RMPUPDATE of %#lx: %#x", phys + at, raw.eax);
	}
	return wrong;
}

static void keep_least(uint64_t *least, uint64_t start)
{
	uint64_t cost = instructions() - start;

	if (cost < *least)
		*least = cost;
}

problem cost_of(struct guest *guest, uint64_t gpa, struct cost *cost)
{
	problem wrong = guest_assign(guest, gpa, true);
	uint64_t start;

	*cost = (struct cost){ UINT64_MAX, UINT64_MAX };
	for (int round = 0; !wrong && round < COST_ROUNDS; round++) {
		start = instructions();
		wrong = guest_smash(guest, gpa);
		keep_least(&cost->smash, start);
		if (!wrong)
			wrong = share_silently(guest, gpa);
		if (wrong)
			break;
		start = instructions();
		wrong = guest_assign(guest, gpa, true);
		keep_least(&cost->whole, start);
	}
	return wrong ? wrong : guest_share(guest, gpa, true);
}

static uint64_t beyond(uint64_t cost, uint64_t base)
{
	return cost > base ? cost - base : 0;
}

struct cost cost_beyond(struct cost cost, struct cost base)
{
	return (struct cost){
		beyond(cost.smash, base.smash), beyond(cost.whole, base.whole)
	};
}
