// SPDX-License-Identifier: GPL-2.0
/*
 * Several groups that follow: each in its own domain (the test build's parameter own_domains)
 * or in a shared one, in one container or in two over the same memory. Every domain must have
 * the leaves that the RMP requires, and the DMA of each device continues.
 */
#include <stdio.h>

#include "follow.h"
#include "guest.h"
#include "harness.h"
#include "module.h"
#include "units.h"

#define AT	GIB(4)
#define AT_TOO	GIB(8)
#define SIZE	MIB(16)
#define PIECE(i) ((i) * MIB(2))
#define PAGE_OF(i, page) (PIECE(i) + (page) * PAGE)
#define BIT(i)	(1ULL << (i))

/* The devices use the first pages of this piece, each its own; they stay shared. */
#define BUSY	1
#define DEVICE_PAGES 64

FIXTURE(domains) {
	struct memory memory;
	struct guest guest;
	struct vmm vmm[2];
	struct device devices[MAX_DEVICES];
	struct prober probers[MAX_DEVICES];
};

FIXTURE_VARIANT(domains) {
	const char *parameters;
	bool own;
};

FIXTURE_VARIANT_ADD(domains, own) { "own_domains=1", true };
FIXTURE_VARIANT_ADD(domains, shared) { "", false };

typedef FIXTURE_DATA(domains) Domains;

FIXTURE_SETUP(domains)
{
	ASSERT_SOUND(module_require(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	fill_with_pattern(self->memory.va, SIZE);
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, SIZE));
}

FIXTURE_TEARDOWN(domains)
{
	guest_stop(&self->guest);
	memory_free(&self->memory);
	huge_pages_release();
	EXPECT_EQ(0, follow_followers());
}

/* A container that follows, with `nr` devices from `first` on; the memory is mapped at `iova`. */
static problem open_vmm(Domains *self, int i, uint64_t iova, int first, int nr)
{
	struct vmm *vmm = &self->vmm[i];
	problem wrong = vmm_open_with(vmm, VFIO_PGSIZE_IOMMU, first, nr);

	for (int j = first; !wrong && j < first + nr; j++)
		wrong = device_start(&self->devices[j], vmm, j);
	if (!wrong)
		wrong = vmm_policy(vmm, FOLLOW, UPTO_2M);
	return wrong ? wrong : vmm_map(vmm, iova, self->memory.va, SIZE, READ_WRITE);
}

static problem close_vmm(Domains *self, int i, int first, int nr)
{
	for (int j = first; j < first + nr; j++)
		device_stop(&self->devices[j]);
	return vmm_close(&self->vmm[i]);
}

/* From now on device number `index` uses its pages, one in `nr`. */
static problem start_prober(Domains *self, int index, int nr, uint64_t iova)
{
	return prober_start_among(&self->probers[index], &self->devices[index], iova + PIECE(BUSY),
				  self->memory.va + PIECE(BUSY), DEVICE_PAGES, index, nr);
}

/* Whether each domain has the leaves that the RMP requires, at once or within seconds. */
static problem has(Domains *self, int i, uint64_t iova, uint64_t small, int devices, bool soon)
{
	struct mapped mapped = { iova, self->memory.va, SIZE, small };
	problem wrong = soon ? follow_has_soon(&self->vmm[i], &mapped, 1, devices) :
		follow_has(&self->vmm[i], &mapped, 1, devices);

	return wrong ? wrong : follow_agrees(&self->vmm[i], vmm_domains(&self->vmm[i]));
}

/* The device's DMA works in piece `i`, at a page that is shared. */
static problem works(Domains *self, int index, uint64_t iova, int i)
{
	uint64_t at = PAGE_OF(i, 300 + index);

	return device_works(&self->devices[index], iova + at, self->memory.va + at);
}

#define HAS(small, devices)		EXPECT_SOUND(has(self, 0, AT, small, devices, false))
#define HAS_SOON(small, devices)	EXPECT_SOUND(has(self, 0, AT, small, devices, true))
#define ASSIGN(gpa)			ASSERT_SOUND(guest_assign(&self->guest, gpa, false))
#define SHARE(gpa)			ASSERT_SOUND(guest_share(&self->guest, gpa, false))
#define SMASH(i) do {								\
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(i), true));		\
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(i)));			\
} while (0)
#define SHARE_PIECE(i)	ASSERT_SOUND(guest_share_pages(&self->guest, PIECE(i), MIB(2)))

/* --- one container ------------------------------------------------------------ */

/* Broken and whole again in `nr` domains, or one, while `nr` devices do DMA. */
static void follow_all(struct __test_metadata *_metadata, Domains *self, bool own, int nr)
{
	struct vfio_pgsize_stats stats;
	int domains = own ? nr : 1;

	ASSERT_SOUND(open_vmm(self, 0, AT, 0, nr));
	ASSERT_EQ(domains, vmm_domains(&self->vmm[0]));
	HAS(0, nr);
	ASSERT_SOUND(follow_stats(&self->vmm[0], &stats));
	for (int i = 0; i < nr; i++) {
		ASSERT_SOUND(start_prober(self, i, nr, AT));
	}
	ASSIGN(PAGE_OF(BUSY, 100));
	HAS(BIT(BUSY), nr);
	SMASH(2);
	HAS(BIT(BUSY) | BIT(2), nr);
	SHARE(PAGE_OF(BUSY, 100));
	HAS_SOON(BIT(2), nr);
	ASSIGN(PAGE_OF(BUSY, 200));
	SHARE_PIECE(2);
	HAS_SOON(BIT(BUSY), nr);
	SHARE(PAGE_OF(BUSY, 200));
	HAS_SOON(0, nr);
	ASSERT_SOUND(follow_counted(&self->vmm[0], &stats, 3 * domains, 3 * domains));
	for (int i = 0; i < nr; i++) {
		EXPECT_SOUND(prober_stop(&self->probers[i]));
	}
	for (int i = 0; i < nr; i++) {
		EXPECT_SOUND(works(self, i, AT, 2));
	}
	EXPECT_SOUND(close_vmm(self, 0, 0, nr));
}

TEST_F_TIMEOUT(domains, two, TIMEOUT)
{
	follow_all(_metadata, self, variant->own, 2);
}

TEST_F_TIMEOUT(domains, four, 2 * TIMEOUT)
{
	follow_all(_metadata, self, variant->own, 4);
}

/* Groups join while blocks are broken, and the first one leaves. */
TEST_F_TIMEOUT(domains, come_and_go, 2 * TIMEOUT)
{
	struct vmm *vmm = &self->vmm[0];

	ASSERT_SOUND(open_vmm(self, 0, AT, 0, 1));
	ASSERT_SOUND(start_prober(self, 0, 2, AT));
	ASSIGN(PAGE_OF(BUSY, 100));
	SMASH(2);
	ASSERT_SOUND(vmm_attach(vmm, 1));
	ASSERT_EQ(variant->own ? 2 : 1, vmm_domains(vmm));
	HAS(BIT(BUSY) | BIT(2), 1);
	ASSERT_SOUND(device_start(&self->devices[1], vmm, 1));
	ASSERT_SOUND(start_prober(self, 1, 2, AT));
	ASSIGN(PAGE_OF(3, 100));
	HAS(BIT(BUSY) | BIT(2) | BIT(3), 2);
	EXPECT_SOUND(prober_stop(&self->probers[0]));
	/* The domain that the later ones were copied from goes. */
	vmm_detach(vmm, 0);
	ASSERT_EQ(1, vmm_domains(vmm));
	ASSIGN(PAGE_OF(4, 100));
	HAS(BIT(BUSY) | BIT(2) | BIT(3) | BIT(4), 2);
	SHARE_PIECE(2);
	SHARE(PAGE_OF(4, 100));
	HAS_SOON(BIT(BUSY) | BIT(3), 2);
	ASSERT_SOUND(vmm_attach(vmm, 0));
	ASSERT_SOUND(vmm_attach(vmm, 2));
	ASSERT_EQ(variant->own ? 3 : 1, vmm_domains(vmm));
	HAS(BIT(BUSY) | BIT(3), 2);
	SHARE(PAGE_OF(BUSY, 100));
	SHARE(PAGE_OF(3, 100));
	HAS_SOON(0, 2);
	EXPECT_SOUND(prober_stop(&self->probers[1]));
	EXPECT_SOUND(works(self, 0, AT, 3));
	EXPECT_SOUND(close_vmm(self, 0, 0, 2));
}

/* Broken blocks are unmapped and mapped again in all domains. */
TEST_F_TIMEOUT(domains, unmapped, TIMEOUT)
{
	struct vmm *vmm = &self->vmm[0];

	ASSERT_SOUND(open_vmm(self, 0, AT, 0, 3));
	SMASH(2);
	ASSIGN(PAGE_OF(3, 100));
	HAS(BIT(2) | BIT(3), 3);
	ASSERT_SOUND(dma_unmap_exactly(vmm->container, AT, SIZE));
	SHARE(PAGE_OF(3, 100));
	ASSIGN(PAGE_OF(4, 100));
	ASSERT_SOUND(vmm_map(vmm, AT, self->memory.va, SIZE, READ_WRITE));
	HAS(BIT(2) | BIT(4), 3);
	for (int i = 0; i < 3; i++) {
		EXPECT_SOUND(works(self, i, AT, 4));
	}
	EXPECT_SOUND(close_vmm(self, 0, 0, 3));
}

/* --- two containers, two groups in each --------------------------------------- */

#define BOTH(small, soon) do {							\
	EXPECT_SOUND(has(self, 0, AT, small, 2, soon));				\
	EXPECT_SOUND(has(self, 1, AT_TOO, small, 2, soon));			\
} while (0)

TEST_F_TIMEOUT(domains, two_containers, 2 * TIMEOUT)
{
	int domains = variant->own ? 2 : 1;

	ASSERT_SOUND(open_vmm(self, 0, AT, 0, 2));
	ASSERT_SOUND(open_vmm(self, 1, AT_TOO, 2, 2));
	ASSERT_EQ(domains, vmm_domains(&self->vmm[0]));
	ASSERT_EQ(domains, vmm_domains(&self->vmm[1]));
	for (int i = 0; i < 4; i++) {
		ASSERT_SOUND(start_prober(self, i, 4, i < 2 ? AT : AT_TOO));
	}
	ASSIGN(PAGE_OF(BUSY, 100));
	SMASH(2);
	BOTH(BIT(BUSY) | BIT(2), false);
	SHARE_PIECE(2);
	BOTH(BIT(BUSY), true);
	ASSIGN(PAGE_OF(3, 100));
	BOTH(BIT(BUSY) | BIT(3), false);
	/* One unmaps and maps again; the other is not affected. */
	EXPECT_SOUND(prober_stop(&self->probers[0]));
	EXPECT_SOUND(prober_stop(&self->probers[1]));
	ASSERT_SOUND(dma_unmap_exactly(self->vmm[0].container, AT, SIZE));
	ASSIGN(PAGE_OF(4, 100));
	EXPECT_SOUND(has(self, 1, AT_TOO, BIT(BUSY) | BIT(3) | BIT(4), 2, false));
	ASSERT_SOUND(vmm_map(&self->vmm[0], AT, self->memory.va, SIZE, READ_WRITE));
	BOTH(BIT(BUSY) | BIT(3) | BIT(4), false);
	SHARE(PAGE_OF(BUSY, 100));
	SHARE(PAGE_OF(3, 100));
	BOTH(BIT(4), true);
	EXPECT_SOUND(prober_stop(&self->probers[2]));
	EXPECT_SOUND(prober_stop(&self->probers[3]));
	for (int i = 0; i < 4; i++) {
		EXPECT_SOUND(works(self, i, i < 2 ? AT : AT_TOO, 4));
	}
	/* One goes while a block is broken. */
	EXPECT_SOUND(close_vmm(self, 1, 2, 2));
	ASSIGN(PAGE_OF(5, 100));
	HAS(BIT(4) | BIT(5), 2);
	SHARE(PAGE_OF(4, 100));
	HAS_SOON(BIT(5), 2);
	EXPECT_SOUND(close_vmm(self, 0, 0, 2));
}

TEST_PROGRAM("Several domains, groups and containers that follow the RMP.")
