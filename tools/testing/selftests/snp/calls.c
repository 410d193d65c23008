// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "calls.h"
#include "container.h"
#include "gates.h"
#include "units.h"

/* Nothing is mapped there. */
#define NOWHERE	GIB(64)

int change_state(int container, uint64_t iova, uint64_t size, uint32_t state)
{
	struct vfio_pgsize_state change = { .iova = iova, .size = size, .state = state };
	uint32_t nr = 1;

	return set_state(container, &change, &nr);
}

static int make(struct call *call)
{
	if (call->what == MAP)
		return dma_map(call->container, call->iova, call->va, call->size, call->flags);
	if (call->what == UNMAP)
		return dma_unmap(call->container, call->iova, &call->size, call->flags);
	return change_state(call->container, call->iova, call->size, call->flags);
}

static void *caller(void *arg)
{
	struct call *call = arg;

	call->ret = make(call);
	__atomic_store_n(&call->returned, true, __ATOMIC_RELEASE);
	return NULL;
}

problem call_begin(struct call *call)
{
	return pthread_create(&call->thread, NULL, caller, call) ? problem_is("no thread") : NULL;
}

bool call_has_returned(const struct call *call)
{
	return __atomic_load_n(&call->returned, __ATOMIC_ACQUIRE);
}

problem call_hold(struct call *call)
{
	struct gates gates = {};
	problem wrong;

	gates_add(&gates, PGSIZE_STEP_MAP_CLAIMED, PGSIZE_STEP_UNMAP_BEGINS);
	wrong = gates_set(&gates);
	if (!wrong)
		wrong = call_begin(call);
	return wrong ? wrong : gates_wait(PGSIZE_STEP_MAP_CLAIMED);
}

problem call_end(struct call *call)
{
	pthread_join(call->thread, NULL);
	return gates_worked();
}

problem call_let_go(struct call *call)
{
	uint64_t size = PAGE;
	int ret;

	if (call_has_returned(call))
		return problem_is("the call was not held");
	/* An empty range also passes the step. */
	ret = dma_unmap(call->container, NOWHERE, &size, 0);
	if (ret || size)
		return problem_is("unmapping nothing: %s, %#lx bytes", strerror(-ret), size);
	return call_end(call);
}
