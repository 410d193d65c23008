// SPDX-License-Identifier: GPL-2.0
/*
 * Joined mappings, and each allocation of a call fails in turn (the debug kernel's fault
 * injection), with one domain, and with two (the test build's): what fails is not done.
 * And a group that comes to two domains finds all pieces.
 */
#include <errno.h>
#include <unistd.h>

#include "fail_nth.h"
#include "harness.h"
#include "module.h"
#include "pieces.h"
#include "units.h"

#define SIZE	MIB(4)
#define AT	(GIB(5) - MIB(2))

/* No call makes more allocations. */
#define MOST	2000

FIXTURE(joined_fault) {
	struct vmm vmm;
	struct memory memory;
	struct pieces pieces;
	int nth;	/* the file that says which allocation of this thread fails */
};

FIXTURE_VARIANT(joined_fault) {
	unsigned long type;
	int domains;
};

FIXTURE_VARIANT_ADD(joined_fault, type1v2) { VFIO_TYPE1v2_IOMMU, 1 };
FIXTURE_VARIANT_ADD(joined_fault, pgsize) { VFIO_PGSIZE_IOMMU, 1 };
FIXTURE_VARIANT_ADD(joined_fault, two_domains) { VFIO_TYPE1v2_IOMMU, 2 };

FIXTURE_SETUP(joined_fault)
{
	ASSERT_SOUND(fail_nth_open(&self->nth));
	ASSERT_SOUND(module_require(JOIN_ON " own_domains=1"));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, variant->domains));
	ASSERT_EQ(variant->domains, vmm_domains(&self->vmm));
	ASSERT_SOUND(pieces_start(&self->pieces, &self->vmm, variant->type, AT, SIZE / PAGE));
	pieces_kind(&self->pieces, self->memory.va, READ_WRITE);
}

FIXTURE_TEARDOWN(joined_fault)
{
	pieces_free(&self->pieces);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
	close(self->nth);
}

/* A piece at these pages, where nothing is mapped before and after each try. */
static problem map_with_failures(FIXTURE_DATA(joined_fault) *self, uint32_t first, uint32_t nr,
				 int *failures)
{
	bool has_failed = true, failed;

	for (int n = 1; has_failed && n < MOST; n++) {
		problem wrong = fail_nth(self->nth, n);

		if (!wrong)
			wrong = pieces_map_may_fail(&self->pieces, 0, first, nr, &failed);
		has_failed = fail_nth_happened(self->nth);
		if (!wrong && failed && !has_failed)
			wrong = "it fails though no allocation does";
		if (!wrong)
			wrong = pieces_agree_quickly(&self->pieces);
		if (!wrong && !failed)
			wrong = pieces_unmap(&self->pieces, first, nr);
		if (wrong)
			return problem_is("allocation %d: %s", n, wrong);
		*failures += failed;
	}
	return has_failed ? "there is no end of allocations" : pieces_agree(&self->pieces);
}

TEST_F_TIMEOUT(joined_fault, map, 2 * TIMEOUT)
{
	/* The first of an entry; one more in a table that is there; one that makes a 2M whole. */
	int first = 0, more = 0, whole = 0;

	EXPECT_SOUND(map_with_failures(self, 5, 1, &first));
	ASSERT_SOUND(pieces_map(&self->pieces, 0, 4, 1));
	EXPECT_SOUND(map_with_failures(self, 5, 1, &more));
	EXPECT_SOUND(map_with_failures(self, 5, 100, &more));
	ASSERT_SOUND(pieces_map(&self->pieces, 0, 512, 511));
	EXPECT_SOUND(map_with_failures(self, 1023, 1, &whole));
	TH_LOG("%d, %d and %d calls failed", first, more, whole);
	EXPECT_LT(3, first);
	EXPECT_LT(0, more);
	ASSERT_SOUND(pieces_map(&self->pieces, 0, 1023, 1));
	EXPECT_SOUND(pieces_agree(&self->pieces));
}

/* A piece of a leaf of 2M: to cut it takes a table. */
TEST_F_TIMEOUT(joined_fault, unmap, 2 * TIMEOUT)
{
	struct pieces *pieces = &self->pieces;
	bool has_failed = true;
	int refused = 0, n;

	for (uint32_t page = 512; page < 1024; page += 32)
		ASSERT_SOUND(pieces_map(pieces, 0, page, 32));
	for (n = 1; has_failed && n < MOST; n++) {
		uint64_t size = KIB(128);
		struct vfio_pgsize_stats stats;
		int ret;

		ASSERT_SOUND(pieces_agree(pieces));
		ASSERT_SOUND(fail_nth(self->nth, n));
		ret = dma_unmap(self->vmm.container, AT + MIB(2) + KIB(256), &size, 0);
		has_failed = fail_nth_happened(self->nth);
		ASSERT_TRUE(!ret || (has_failed && (ret == -ENOMEM || ret == -EFAULT)));
		/* Of what could not be copied it says nothing: the request, or the answer. */
		ASSERT_EQ(0, get_stats(self->vmm.container, &stats));
		if (stats.joined == MIB(2)) {
			ASSERT_NE(0, ret);
			refused++;
			continue;
		}
		ASSERT_NE(-ENOMEM, ret);
		pieces_forget(pieces, 512 + 64, 32);
		ASSERT_SOUND(pieces_agree(pieces));
		ASSERT_SOUND(pieces_map(pieces, 0, 512 + 64, 32));
	}
	EXPECT_FALSE(has_failed);
	TH_LOG("refused %d times, of %d", refused, n);
	EXPECT_LT(1, refused);
}

/* A domain more, in the middle: it gets the pieces, or the group does not come. */
TEST_F_TIMEOUT(joined_fault, attach, TIMEOUT)
{
	struct pieces *pieces = &self->pieces;

	for (uint32_t page = 512; page < 1024; page += 64)
		ASSERT_SOUND(pieces_map(pieces, 0, page, 64));
	for (uint32_t page = 0; page < 512; page += 3)
		ASSERT_SOUND(pieces_map(pieces, 0, page, 1));
	if (variant->domains == 2)
		vmm_detach(&self->vmm, 1);
	EXPECT_SOUND(pieces_agree(pieces));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	ASSERT_EQ(2, vmm_domains(&self->vmm));
	EXPECT_SOUND(pieces_agree(pieces));
	for (int i = 0; i < 400; i++)
		ASSERT_SOUND(pieces_random(pieces));
	EXPECT_SOUND(pieces_agree(pieces));
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(pieces_agree(pieces));
	for (int i = 0; i < 100; i++)
		ASSERT_SOUND(pieces_random(pieces));
	EXPECT_SOUND(pieces_agree(pieces));
}

TEST_PROGRAM("Makes each allocation of calls on joined mappings fail in turn.")
