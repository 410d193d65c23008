// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "state.h"
#include "units.h"

problem state_take(struct vmm *vmm, struct state *state)
{
	uint64_t at = 0;
	problem wrong;

	memset(state, 0, sizeof(*state));
	wrong = leaves_query_state(&state->leaves, vmm->container, 0, 0, EVERYWHERE);
	if (!wrong)
		wrong = container_info(vmm->container, &state->info);
	if (!wrong)
		wrong = account_read(&state->account);
	if (wrong)
		return wrong;
	if (get_stats(vmm->container, &state->stats))
		return problem_is("GET_STATS: %m");
	/* The end is behind the last address, or where GET_POLICY stops short of it. */
	do {
		struct vfio_pgsize_policy *policy = &state->policies[state->nr_policies++];
		int ret = policy_get(vmm->container, policy, VFIO_PGSIZE_POLICY_RANGE, at);

		if (ret || !policy->size)
			return problem_is("GET_POLICY at %#lx: %s", at, strerror(-ret));
		at += policy->size;
	} while (at && at < EVERYWHERE && state->nr_policies < MAX_POLICIES);
	return NULL;
}

problem state_is(struct vmm *vmm, const struct state *before)
{
	struct state now;
	problem wrong = state_take(vmm, &now);

	if (wrong)
		return wrong;
	wrong = leaves_differ(&before->leaves, &now.leaves);
	leaves_free(&now.leaves);
	if (wrong)
		return problem_is("the leaves changed: %s", wrong);
	if (memcmp(&before->info, &now.info, sizeof(now.info)))
		return problem_is("what GET_INFO says changed");
	if (before->stats.shared != now.stats.shared ||
	    before->stats.stateful != now.stats.stateful)
		return problem_is("%llu bytes of %llu are shared, before it were %llu of %llu",
				  now.stats.shared, now.stats.stateful, before->stats.shared,
				  before->stats.stateful);
	if (before->stats.joined != now.stats.joined ||
	    before->stats.joined_entries != now.stats.joined_entries)
		return problem_is("%llu bytes are in %llu joined mappings, before it were %llu in %llu",
				  now.stats.joined, now.stats.joined_entries, before->stats.joined,
				  before->stats.joined_entries);
	if (memcmp(before->policies, now.policies, sizeof(now.policies)))
		return problem_is("the policy changed");
	return account_rose(&before->account, 0, 0);
}

void state_free(struct state *state)
{
	leaves_free(&state->leaves);
}
