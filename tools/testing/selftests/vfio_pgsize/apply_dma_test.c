// SPDX-License-Identifier: GPL-2.0
/*
 * Two devices continuously do DMA while the leaves under them are split and merged: no byte may be
 * lost, and the IOMMU may not log a fault.
 */
#include "harness.h"
#include "module.h"
#include "oracle.h"
#include "traffic.h"
#include "units.h"
#include "vmm.h"

#define AT		GIB(4)
#define DEVICES		2
#define COPIES		30	/* pages that each device moves in and out */
#define ROUNDS		20	/* minimum number of times that the leaves are split and merged */

FIXTURE(apply_dma) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_VARIANT(apply_dma) {
	enum backing backing;
	uint64_t size;
	uint64_t large;		/* the leaves that are split and merged */
};

FIXTURE_VARIANT_ADD(apply_dma, leaf_2m) {
	.backing = HUGETLB_2M, .size = MIB(64), .large = MIB(2),
};
FIXTURE_VARIANT_ADD(apply_dma, leaf_thp) {
	.backing = THP, .size = MIB(16), .large = MIB(2),
};
FIXTURE_VARIANT_ADD(apply_dma, leaf_64m) {
	.backing = HUGETLB_1G, .size = GIB(1), .large = MIB(64),
};
FIXTURE_VARIANT_ADD(apply_dma, leaf_1g) {
	.backing = HUGETLB_1G, .size = GIB(1), .large = GIB(1),
};

FIXTURE_SETUP(apply_dma)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, variant->backing, variant->size));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, DEVICES));
}

FIXTURE_TEARDOWN(apply_dma)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* QUERY after APPLY; ask the oracle only `now and then`, because it stops the machine. */
static problem has_leaves_of(struct vmm *vmm, const struct memory *memory, uint64_t sizes,
			     int ask_oracle)
{
	struct leaves expected = {}, found = {};
	problem wrong = leaves_tile(&expected, AT, memory->va, memory->size, sizes, READ_WRITE);

	if (!wrong)
		wrong = leaves_query(&found, vmm->container, 0, 0, EVERYWHERE);
	if (!wrong)
		wrong = leaves_differ(&expected, &found);
	if (!wrong && ask_oracle)
		wrong = oracle_agrees(vmm->devices[0].bdf, &expected);
	leaves_free(&expected);
	leaves_free(&found);
	return wrong;
}

TEST_F_TIMEOUT(apply_dma, split_and_merge_under_dma, 2 * TIMEOUT)
{
	struct traffic traffic[DEVICES] = {};
	uint64_t half = self->memory.size / 2;
	uint64_t large = PAGE | variant->large;
	int rounds;

	ASSERT_SOUND(vmm_policy(&self->vmm, 0, large));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, self->memory.size, READ_WRITE));
	ASSERT_SOUND(has_leaves_of(&self->vmm, &self->memory, large, 1));
	for (int i = 0; i < DEVICES; i++) {
		traffic[i] = (struct traffic){
			.edu = &self->vmm.devices[i].edu,
			.iova = AT + i * half,
			.va = self->memory.va + i * half,
			.pages = half / PAGE,
			.stride = PAGE,
			.random = 7 + i,
			.wanted = COPIES,
		};
		ASSERT_SOUND(traffic_start(&traffic[i]));
	}
	for (rounds = 0;
	     rounds < ROUNDS || traffic_goes_on(&traffic[0]) || traffic_goes_on(&traffic[1]);
	     rounds++) {
		ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K));
		EXPECT_SOUND(has_leaves_of(&self->vmm, &self->memory, ONLY_4K, rounds % 8 == 0));
		ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, large));
		EXPECT_SOUND(has_leaves_of(&self->vmm, &self->memory, large, rounds % 8 == 4));
		if (_metadata->exit_code)
			break;
	}
	for (int i = 0; i < DEVICES; i++) {
		EXPECT_SOUND(traffic_end(&traffic[i]));
	}
	TH_LOG("%d transfers while %d rounds of split and merge", 4 * COPIES, rounds);
	EXPECT_LE(ROUNDS, rounds);
	kernel_log_read(&self->vmm.log);
	EXPECT_EQ(0, self->vmm.log.faults);
}

/* Proof that a fault would be seen: the same traffic where nothing is mapped. */
TEST_F_TIMEOUT(apply_dma, fault_would_be_seen, TIMEOUT)
{
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, self->memory.size, READ_WRITE));
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, AT + self->memory.size));
	EXPECT_SOUND(vmm_store_faults(&self->vmm, 1, AT - PAGE));
}

TEST_PROGRAM("Splits and merges leaves while two devices do DMA through them.")
