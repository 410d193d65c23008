// SPDX-License-Identifier: GPL-2.0
/*
 * A container of two domains, of which one cannot map: memory that devices of the other may have
 * written to meanwhile is dirty. With fault injection (debug kernel) and groups in their own
 * domains (test build).
 */
#include <fcntl.h>
#include <unistd.h>

#include "fail_nth.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

/* Maximum number of allocations of a call. */
#define MOST	200

FIXTURE(domains_fault) {
	struct vmm vmm;
	int nth;	/* the file that selects the failing allocation of this thread */
};

FIXTURE_VARIANT(domains_fault) {
	enum backing backing;
	uint64_t size;
};

/* Mapped together in a list; mapped separately. */
FIXTURE_VARIANT_ADD(domains_fault, anon_4k) { .backing = ANON_4K, .size = PAGE };
FIXTURE_VARIANT_ADD(domains_fault, thp) { .backing = THP, .size = MIB(2) };

FIXTURE_SETUP(domains_fault)
{
	ASSERT_SOUND(fail_nth_open(&self->nth));
	ASSERT_SOUND(module_require("own_domains=1"));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 2));
	ASSERT_EQ(2, vmm_domains(&self->vmm));
}

FIXTURE_TEARDOWN(domains_fault)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_SOUND(module_require(""));
	close(self->nth);
}

/* Whether the frame is dirty. -1: unknown. */
static int is_dirty(const void *va)
{
	int file = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t phys, flags;
	ssize_t length = -1;

	if (!memory_phys(va, 1, &phys))
		length = pread(file, &flags, sizeof(flags), phys / PAGE * sizeof(flags));
	close(file);
	return length == sizeof(flags) ? (int)(flags >> 4 & 1) : -1;	/* KPF_DIRTY */
}

TEST_F_TIMEOUT(domains_fault, what_the_first_domain_had_is_dirty, TIMEOUT)
{
	static const uint32_t flags[] = { READ_WRITE, VFIO_DMA_MAP_FLAG_READ };

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		int first = -1, last = -1, n;
		bool has_failed = true;

		for (n = 1; has_failed && n < MOST; n++) {
			struct memory memory = {};
			int ret;

			ASSERT_SOUND(memory_alloc(&memory, variant->backing, variant->size));
			ASSERT_EQ(0, is_dirty(memory.va));
			ASSERT_SOUND(fail_nth(self->nth, n));
			/* Each at its own place, where there is no table yet. */
			ret = dma_map(self->vmm.container, (i * MOST + n) * GIB(1), memory.va,
				      memory.size, flags[i]);
			has_failed = fail_nth_happened(self->nth);
			if (ret) {
				ASSERT_TRUE(has_failed);
				last = is_dirty(memory.va);
				if (first < 0)
					first = last;
			} else {
				ASSERT_SOUND(dma_unmap_exactly(self->vmm.container,
							       (i * MOST + n) * GIB(1), memory.size));
				/* The state after a mapping has gone. */
				EXPECT_EQ(flags[i] == READ_WRITE, is_dirty(memory.va));
			}
			memory_free(&memory);
		}
		EXPECT_FALSE(has_failed);
		/* The first allocation comes before anything is mapped, the last in the last domain. */
		EXPECT_EQ(0, first);
		EXPECT_EQ(flags[i] == READ_WRITE, last);
	}
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

TEST_PROGRAM("Has a map fail in the second of two domains, at each allocation.")
