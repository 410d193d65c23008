// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that converts all of its memory page by page, in random order, as a VMM maps it
 * that knows of no page states: type1 has no entries left long before the end. The memory
 * is one huge page, many times.
 *
 * JOINED_GIB says how much it is, if not 1.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "harness.h"
#include "module.h"
#include "oracle.h"
#include "pieces.h"
#include "units.h"

#define AT	GIB(16)
#define HUGE	MIB(2)

FIXTURE(boot) {
	struct vmm vmm;
	uint8_t *va;
	uint64_t size;
	uint32_t *order;
	uint64_t phys;
};

static problem make_memory(FIXTURE_DATA(boot) *self)
{
	struct memory huge = {};
	problem wrong = memory_alloc(&huge, HUGETLB_2M, HUGE);
	uint8_t *room;
	int file;

	/* The page that was had for it stays with the machine. */
	memory_free(&huge);
	file = memfd_create("boot", MFD_HUGETLB | MFD_HUGE_2MB);
	room = mmap(NULL, self->size + HUGE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (wrong || file < 0 || ftruncate(file, HUGE) || room == MAP_FAILED)
		return wrong ? wrong : problem_is("no memory: %m");
	self->va = (uint8_t *)(((uintptr_t)room + HUGE - 1) & -HUGE);
	for (uint64_t at = 0; at < self->size; at += HUGE)
		if (mmap(self->va + at, HUGE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0) == MAP_FAILED)
			return problem_is("the page is not mapped at %#lx: %m", at);
	close(file);
	return memory_phys(self->va, 1, &self->phys);
}

FIXTURE_SETUP(boot)
{
	const char *text = getenv("JOINED_GIB");
	uint32_t nr;

	self->size = GIB(text ? strtoul(text, NULL, 0) : 1);
	ASSERT_SOUND(make_memory(self));
	nr = self->size / PAGE;
	self->order = calloc(nr, sizeof(*self->order));
	ASSERT_NE(NULL, self->order);
	srandom(1);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t other = random() % (i + 1);

		self->order[i] = self->order[other];
		self->order[other] = i;
	}
}

FIXTURE_TEARDOWN(boot)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	munmap(self->va, self->size);
	free(self->order);
	huge_pages_release();
}

/* Map all pages, every `stride`th one. Returns how many are. */
static uint32_t convert(FIXTURE_DATA(boot) *self, uint32_t stride, int *error)
{
	uint32_t nr = self->size / PAGE, done = 0;

	*error = 0;
	for (uint32_t i = 0; i < nr && !*error; i++) {
		uint64_t at = self->order[i] * PAGE;

		if (self->order[i] % stride)
			continue;
		*error = dma_map(self->vmm.container, AT + at, self->va + at, PAGE, READ_WRITE);
		done += !*error;
	}
	return done;
}

TEST_F_TIMEOUT(boot, type1, TIMEOUT)
{
	int error;

	ASSERT_SOUND(module_require_none());
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	EXPECT_EQ(UINT16_MAX, convert(self, 1, &error));
	EXPECT_EQ(-ENOSPC, error);
}

/* As type1, without the parameter. */
TEST_F_TIMEOUT(boot, not_joined, TIMEOUT)
{
	struct vfio_pgsize_stats stats;
	struct info info;
	int error;

	ASSERT_SOUND(module_require(JOIN_OFF));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	ASSERT_SOUND(container_info(self->vmm.container, &info));
	EXPECT_EQ(UINT16_MAX, info.dma_avail);
	EXPECT_EQ(UINT16_MAX, convert(self, 1, &error));
	EXPECT_EQ(-ENOSPC, error);
	ASSERT_EQ(0, get_stats(self->vmm.container, &stats));
	EXPECT_EQ(0, stats.joined_entries);
}

/* How many leaves of each size are in the page table. */
static problem count(FIXTURE_DATA(boot) *self, uint64_t *of_4k, uint64_t *of_2m)
{
	struct leaves found = {};
	problem wrong = leaves_query(&found, self->vmm.container, 0, 0, EVERYWHERE);

	*of_4k = leaves_count_size(&found, PAGE);
	*of_2m = leaves_count_size(&found, MIB(2));
	if (!wrong && leaves_count(&found) != *of_4k + *of_2m)
		wrong = problem_is("there are leaves of other sizes");
	leaves_free(&found);
	return wrong;
}

TEST_F_TIMEOUT(boot, joined, 8 * TIMEOUT)
{
	uint64_t nr = self->size / PAGE, size = self->size, of_4k, of_2m;
	uint32_t gib = self->size / GIB(1);
	struct vfio_pgsize_stats stats;
	struct leaves expected = {};
	struct info info;
	int error;

	ASSERT_SOUND(module_require(JOIN_ON));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_TYPE1v2_IOMMU, 1));
	/* What QEMU compares with the guest's pages and KVM's memory slots: enough for 1 TiB. */
	ASSERT_SOUND(container_info(self->vmm.container, &info));
	EXPECT_LT(GIB(1024) / PAGE + 32764, info.dma_avail);

	EXPECT_EQ(nr, convert(self, 1, &error));
	EXPECT_EQ(0, error);
	ASSERT_EQ(0, get_stats(self->vmm.container, &stats));
	EXPECT_EQ(gib, stats.joined_entries);
	EXPECT_EQ(self->size, stats.joined);
	EXPECT_SOUND(account_rose(&self->vmm.before, nr, nr));
	for (uint64_t at = 0; at < self->size; at += HUGE)
		leaves_tile_phys(&expected, AT + at, self->phys, HUGE, UPTO_2M, READ_WRITE);
	EXPECT_EQ(self->size / HUGE, leaves_count_size(&expected, MIB(2)));
	EXPECT_SOUND(vmm_has_leaves(&self->vmm, &expected));
	leaves_free(&expected);
	EXPECT_SOUND(edu_copy(&self->vmm.devices[0].edu, AT + GIB(1) - HUGE, self->va,
			      AT + self->size - PAGE, self->va + HUGE - PAGE, PAGE));

	/* All at once; then every other page, which no larger leaf fits. */
	ASSERT_EQ(0, dma_unmap(self->vmm.container, AT, &size, 0));
	EXPECT_EQ(self->size, size);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	EXPECT_EQ(nr / 2, convert(self, 2, &error));
	EXPECT_EQ(0, error);
	ASSERT_EQ(0, get_stats(self->vmm.container, &stats));
	EXPECT_EQ(gib, stats.joined_entries);
	EXPECT_EQ(self->size / 2, stats.joined);
	EXPECT_SOUND(account_rose(&self->vmm.before, nr / 2, nr / 2));
	EXPECT_SOUND(count(self, &of_4k, &of_2m));
	EXPECT_EQ(nr / 2, of_4k);
	EXPECT_EQ(0, of_2m);
	/* Half of them page by page, the rest with the container. */
	for (uint64_t i = 0; i < nr / 2; i++)
		if (!(self->order[i] % 2))
			ASSERT_SOUND(dma_unmap_exactly(self->vmm.container,
						       AT + self->order[i] * PAGE, PAGE));
}

TEST_PROGRAM("Maps memory page by page in random order, on type1 and joined.")
