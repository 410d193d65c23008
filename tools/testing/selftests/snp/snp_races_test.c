// SPDX-License-Identifier: GPL-2.0
/*
 * Map and unmap against a smash and an assignment, by force: each step of the one before and
 * after each step of the other, with the test build's gates (rust/sys/testing.h). In every order
 * the leaves agree with the RMP.
 *
 * A maps or unmaps, B changes the RMP. Held at a step, A has done everything before that step,
 * and nothing after it.
 */
#include <stdio.h>
#include <string.h>

#include "gates.h"
#include "harness.h"
#include "module.h"
#include "scene.h"

#define SIZE	MIB(6)

/* B breaks the first 2M: this page of it is assigned, or all of them. */
#define BROKEN	(5 * PAGE)
#define SHARED	(6 * PAGE)

/* --- A and B ------------------------------------------------------------------ */

FIXTURE(races) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
	struct device device;
	bool mapped;
	problem wrong;		/* of A; its text is in ... */
	char text[256];
	unsigned int runs, again, impossible;
	bool visited[PGSIZE_STEPS][PGSIZE_STEPS];
};

FIXTURE_VARIANT(races) {
	bool unmap;
	bool smash;
	int first, last;	/* A's steps */
};

FIXTURE_VARIANT_ADD(races, map_assign) {
	false, false, PGSIZE_STEP_MAP_BEGINS, PGSIZE_STEP_MAP_INSERTED,
};
FIXTURE_VARIANT_ADD(races, map_smash) {
	false, true, PGSIZE_STEP_MAP_BEGINS, PGSIZE_STEP_MAP_INSERTED,
};
FIXTURE_VARIANT_ADD(races, unmap_assign) {
	true, false, PGSIZE_STEP_UNMAP_BEGINS, PGSIZE_STEP_UNMAP_UNWATCHED,
};
FIXTURE_VARIANT_ADD(races, unmap_smash) {
	true, true, PGSIZE_STEP_UNMAP_BEGINS, PGSIZE_STEP_UNMAP_UNWATCHED,
};

typedef FIXTURE_DATA(races) Races;
typedef FIXTURE_VARIANT(races) Variant;

FIXTURE_SETUP(races)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, &self->device, SIZE));
	POLICY(FOLLOW);
}

FIXTURE_TEARDOWN(races)
{
	EXPECT_SOUND(gates_set(&(struct gates){}));
	/* Nothing is pinned, and no DMA has faulted. */
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, &self->device));
}

static problem unmap(Races *self)
{
	problem wrong = self->mapped ?
		dma_unmap_exactly(self->vmm.container, AT, SIZE) : NULL;

	self->mapped = false;
	return wrong;
}

static problem map(Races *self)
{
	self->mapped = true;
	return vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE);
}

static void *do_a(void *arg)
{
	Races *self = arg;
	problem wrong = self->mapped ? unmap(self) : map(self);

	if (wrong) {
		snprintf(self->text, sizeof(self->text), "%s", wrong);
		self->wrong = self->text;
	}
	return NULL;
}

static problem do_b(Races *self, bool smash)
{
	return smash ? guest_smash(&self->guest, 0) : guest_assign(&self->guest, BROKEN, false);
}

/* B's changes are undone; nothing is mapped. */
static problem restore(Races *self, bool smash)
{
	problem wrong = unmap(self);

	if (wrong)
		return wrong;
	return smash ? guest_share_pages(&self->guest, 0, MIB(2)) :
		guest_share(&self->guest, BROKEN, false);
}

/* Both are done: the leaves must match the RMP, and DMA must work. */
static problem all_is_well(Races *self, bool smash)
{
	struct mapped mapped = { AT, self->memory.va, SIZE, BIT(0) };
	uint64_t at = smash ? MIB(2) : SHARED;
	problem wrong = follow_agrees(&self->vmm, 1);

	if (!wrong)
		wrong = follow_has(&self->vmm, &mapped, self->mapped, 1);
	if (!wrong && self->mapped)
		wrong = device_works(&self->device, AT + at, self->memory.va + at);
	return wrong;
}

/* --- orders ------------------------------------------------------------------- */

/*
 * A is held at `hold`, and B begins. If `b_first`, B reaches `b` while A is held at `a`.
 * Otherwise A is held until B is at `b`, and B waits there until A is at `a`.
 */
struct order {
	int a, b;
	bool b_first;
	int hold;
};

static int earlier(const struct order *order)
{
	return order->b_first ? order->b : order->a;
}

static int later(const struct order *order)
{
	return order->b_first ? order->a : order->b;
}

/* Why this order is impossible; the test tries it too, and it has to fail. */
static const char *why_impossible(const struct order *order)
{
	if (order->a == PGSIZE_STEP_MAP_HIT && order->b == PGSIZE_STEP_SMASH_BEGINS &&
	    !order->b_first)
		return "it is the hook that hits";
	return NULL;
}

static void gates_of(const struct order *order, struct gates *gates)
{
	if (order->b_first) {
		gates_add(gates, order->a, order->b);
		/* A reaches that step only if B's hook ran. */
		if (order->a == PGSIZE_STEP_MAP_HIT)
			gates_add(gates, order->hold, PGSIZE_STEP_SMASH_NOTED);
	} else {
		gates_add(gates, order->hold, order->b);
		gates_add(gates, order->b, order->a);
	}
}

static bool is_visited(const struct order *order, const struct seen *seen)
{
	int before = earlier(order), after = later(order);

	return !seen->given_up && seen->reached[before] && seen->passed[after] &&
	       seen->reached[before] < seen->passed[after];
}

static problem try_order(Races *self, const Variant *variant, const struct order *order,
			 struct seen *seen)
{
	struct gates gates = {};
	problem wrong = NULL, b_wrong;
	pthread_t a;

	if (variant->smash)
		wrong = guest_assign(&self->guest, 0, true);
	if (!wrong && variant->unmap)
		wrong = map(self);
	gates_of(order, &gates);
	if (!wrong)
		wrong = gates_set(&gates);
	if (wrong)
		return wrong;
	self->runs++;
	self->wrong = NULL;
	if (pthread_create(&a, NULL, do_a, self))
		return problem_is("no thread");
	wrong = gates_wait(order->hold);
	b_wrong = do_b(self, variant->smash);
	pthread_join(a, NULL);
	wrong = self->wrong ? self->wrong : b_wrong ? b_wrong : wrong;
	if (!wrong)
		wrong = gates_see(seen);
	if (!wrong)
		wrong = gates_set(&(struct gates){});
	if (!wrong)
		wrong = all_is_well(self, variant->smash);
	return wrong ? wrong : restore(self, variant->smash);
}

static problem force_order(Races *self, const Variant *variant, const struct order *order)
{
	int before = earlier(order), after = later(order);
	const char *why = why_impossible(order);
	struct seen seen = {};
	problem wrong = NULL;

	for (int i = 0; !wrong && i < (why ? 1 : GATES_TRIES); i++) {
		self->again += i > 0;
		wrong = try_order(self, variant, order, &seen);
		if (is_visited(order, &seen))
			break;
	}
	if (wrong)
		return problem_is("\"%s\" before \"%s\" (A held at \"%s\"): %s", gates_name(before),
				  gates_name(after), gates_name(order->hold), wrong);
	if (is_visited(order, &seen) == !!why)
		return problem_is("\"%s\" before \"%s\" (A held at \"%s\") was %s", gates_name(before),
				  gates_name(after), gates_name(order->hold),
				  why ? "visited, and cannot be" : "not visited");
	self->visited[before][after] |= !why;
	if (why) {
		self->impossible++;
		printf("# impossible: \"%s\" before \"%s\": %s\n", gates_name(before),
		       gates_name(after), why);
	}
	return NULL;
}

/* All orders of A's step `a` and B's step `b`. */
static problem force_pair(Races *self, const Variant *variant, int a, int b)
{
	bool hit = a == PGSIZE_STEP_MAP_HIT;
	struct order order = { a, b, true, hit ? PGSIZE_STEP_MAP_PUBLISHES : a };
	problem wrong = force_order(self, variant, &order);

	order.b_first = false;
	order.hold = hit ? PGSIZE_STEP_MAP_PUBLISHES : variant->first;
	for (; !wrong && (order.hold < a || order.hold == variant->first); order.hold++) {
		/* A is not held there: it passes only if B's hook ran, which waits for it. */
		if (order.hold == PGSIZE_STEP_MAP_HIT)
			continue;
		wrong = force_order(self, variant, &order);
	}
	return wrong;
}

TEST_F_TIMEOUT(races, each_order, 4 * TIMEOUT)
{
	unsigned int pairs = 0;

	for (int a = variant->first; a <= variant->last; a++) {
		for (int b = PGSIZE_STEP_SMASH_BEGINS; b <= PGSIZE_STEP_SMASH_DONE; b++) {
			ASSERT_SOUND(force_pair(self, variant, a, b));
		}
	}
	for (int a = variant->first; a <= variant->last; a++)
		for (int b = PGSIZE_STEP_SMASH_BEGINS; b <= PGSIZE_STEP_SMASH_DONE; b++)
			pairs += self->visited[a][b] + self->visited[b][a];
	printf("# %u orders of pairs of steps visited, %u impossible; %u runs, %u of them again\n",
	       pairs, self->impossible, self->runs, self->again);
	EXPECT_EQ(2 * 4 * (variant->last - variant->first + 1), pairs + self->impossible);
}

TEST_PROGRAM("Map and unmap against smash and assignment: each order of their steps.")
