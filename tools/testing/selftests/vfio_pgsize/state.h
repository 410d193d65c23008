/* SPDX-License-Identifier: GPL-2.0 */
/* Everything that a call on a container could change, to check that a bad call changed nothing. */
#ifndef VFIO_PGSIZE_STATE_H
#define VFIO_PGSIZE_STATE_H

#include "vmm.h"

#define MAX_POLICIES	16

struct state {
	struct leaves leaves;
	struct info info;
	struct account account;
	struct vfio_pgsize_stats stats;
	struct vfio_pgsize_policy policies[MAX_POLICIES];
	int nr_policies;
};

problem state_take(struct vmm *vmm, struct state *state);
void state_free(struct state *state);
/* Whether the state is unchanged. */
problem state_is(struct vmm *vmm, const struct state *before);

#endif
