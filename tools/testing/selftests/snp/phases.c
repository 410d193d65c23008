// SPDX-License-Identifier: GPL-2.0
#include "clock.h"
#include "phases.h"
#include "units.h"

/* The first 2M is the guest's pool for DMA, always shared (as swiotlb is). */
#define POOL_PAGES	512

/* The 2M pieces whose pages are shared and made private again ... */
#define FIRST_MIXED	1
#define LAST_MIXED	4
/* ... this many of each, ... */
#define SHARED_PAGES	8
/* ... and those that are only smashed. */
#define FIRST_SMASHED	5
#define LAST_SMASHED	12

/* Transfers to wait for to observe a state for long, and for a moment. */
#define MANY		40
#define SOME		10

uint64_t cost_of_smash = UINT64_MAX;

#define TRY(call) do {			\
	problem __wrong = (call);	\
					\
	if (__wrong)			\
		return __wrong;		\
} while (0)

static problem smash(struct life *life, int huge)
{
	uint64_t start = instructions(), cost;

	TRY(guest_smash(&life->guest, huge * MIB(2)));
	cost = instructions() - start;
	if (cost < cost_of_smash)
		cost_of_smash = cost;
	return NULL;
}

static problem boot(struct life *life)
{
	for (int huge = 1; huge < LIFE_HUGE; huge++)
		TRY(life_make_private(life, huge * MIB(2), true));
	return life_goes_on(life, MANY);
}

static problem smash_all(struct life *life)
{
	for (int huge = FIRST_SMASHED; huge <= LAST_SMASHED; huge++) {
		TRY(smash(life, huge));
		TRY(life_goes_on(life, SOME));
	}
	return NULL;
}

/* Spread over the 2M, so that no large leaf is left between them. */
static uint64_t spread(int huge, int i, int nr)
{
	return huge * MIB(2) + (i * (512 / nr) + 3) * PAGE;
}

static problem share_pages_of(struct life *life, int huge)
{
	TRY(smash(life, huge));
	for (int i = 0; i < SHARED_PAGES; i++) {
		uint64_t at = spread(huge, i, SHARED_PAGES);

		TRY(life_make_shared(life, at, false));
		life_want(life, at, true);
	}
	return life_goes_on(life, SOME);
}

static problem share_pages(struct life *life)
{
	for (int huge = FIRST_MIXED; huge <= LAST_MIXED; huge++)
		TRY(share_pages_of(life, huge));
	return life_goes_on(life, MANY);
}

static problem take_pages_back(struct life *life)
{
	for (int huge = FIRST_MIXED; huge <= LAST_MIXED; huge++) {
		for (int i = 0; i < SHARED_PAGES; i++) {
			uint64_t at = spread(huge, i, SHARED_PAGES);

			life_want(life, at, false);
			TRY(life_make_private(life, at, false));
		}
		TRY(life_goes_on(life, SOME));
	}
	return NULL;
}

/* One page is assigned, its 511 neighbours are in use. */
static problem take_pages_of_the_pool(struct life *life)
{
	for (int i = 0; i < SHARED_PAGES; i++) {
		TRY(life_make_private(life, spread(0, i, SHARED_PAGES), false));
		TRY(life_goes_on(life, SOME));
	}
	for (int i = 0; i < SHARED_PAGES; i++)
		TRY(life_make_shared(life, spread(0, i, SHARED_PAGES), false));
	return NULL;
}

static problem share_all(struct life *life)
{
	for (int huge = FIRST_MIXED; huge <= LAST_MIXED; huge++) {
		for (uint64_t page = 0; page < MIB(2); page += PAGE)
			TRY(life_make_shared(life, huge * MIB(2) + page, false));
		TRY(life_goes_on(life, SOME));
	}
	return NULL;
}

static problem private_again(struct life *life)
{
	TRY(life_goes_on(life, MANY));
	for (int huge = FIRST_MIXED; huge <= LAST_MIXED; huge++) {
		TRY(life_make_private(life, huge * MIB(2), true));
		TRY(life_goes_on(life, SOME));
	}
	return NULL;
}

static problem share_once_more(struct life *life)
{
	TRY(share_pages_of(life, FIRST_MIXED));
	return life_goes_on(life, MANY);
}

const struct phase phases[NR_PHASES] = {
	{ "boot: private, in 2M", boot, NEVER },
	{ "2M smashed", smash_all, NEVER },
	{ "pages of 4K shared", share_pages, SURELY },
	{ "private again", take_pages_back, AT_TIMES },
	{ "pages of the pool private", take_pages_of_the_pool, SURELY },
	{ "2M shared, by 4K", share_all, AT_TIMES },
	{ "private, in 2M again", private_again, NEVER },
	{ "pages of 4K shared again", share_once_more, SURELY },
};
