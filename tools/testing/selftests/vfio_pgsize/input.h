/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Bad input: each field of each call wrong in turn. The documented error comes
 * back, and nothing changes: no leaf, no policy, no page locked or pinned.
 */
#ifndef VFIO_PGSIZE_INPUT_H
#define VFIO_PGSIZE_INPUT_H

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "harness.h"
#include "module.h"
#include "state.h"
#include "units.h"

#define AT	GIB(1)
#define SIZE	MIB(4)

FIXTURE(input) {
	struct vmm vmm;
	struct memory memory;
	struct state before;
};

/* A mapping, and a range with a policy of its own within it. */
FIXTURE_SETUP(input)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE, AT, PAGE, ONLY_4K));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	ASSERT_SOUND(state_take(&self->vmm, &self->before));
	ASSERT_EQ(512, leaves_count_size(&self->before.leaves, PAGE));
	ASSERT_EQ(1, leaves_count_size(&self->before.leaves, MIB(2)));
}

FIXTURE_TEARDOWN(input)
{
	state_free(&self->before);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

/* The call fails so, and nothing has changed. */
#define REFUSED(error, container, request, arg) do {				\
	int __ret = ioctl(container, request, arg);				\
										\
	EXPECT_EQ(-1, __ret);							\
	if (__ret < 0)								\
		EXPECT_EQ(error, errno);					\
	EXPECT_SOUND(state_is(&self->vmm, &self->before));			\
} while (0)

/* One field of a good request set to a bad value. */
#define WRONG(error, request, good, field, value) do {				\
	__typeof__(good) __wrong = good;					\
										\
	__wrong.field = value;							\
	TH_LOG("%s: %s = %s", #request, #field, #value);			\
	REFUSED(error, self->vmm.container, request, &__wrong);			\
} while (0)

/* Two fields that do not go together. */
#define WRONG2(error, request, good, field, value, field2, value2) do {		\
	__typeof__(good) __good2 = good;					\
										\
	__good2.field2 = value2;						\
	WRONG(error, request, __good2, field, value);				\
} while (0)

/* An argument that the kernel can not read or not write, whole or in part. */
static uint8_t *edge_of_memory(void)
{
	uint8_t *va = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);

	if (va == MAP_FAILED || munmap(va + PAGE, PAGE))
		abort();
	return va + PAGE;
}

#define UNREADABLE(request, good) do {						\
	uint8_t *__edge = edge_of_memory();					\
	uint8_t *__part = __edge - sizeof(good) / 2 / 8 * 8;			\
										\
	memcpy(__part, &(good), __edge - __part);				\
	REFUSED(EFAULT, self->vmm.container, request, NULL);			\
	REFUSED(EFAULT, self->vmm.container, request, __edge);			\
	REFUSED(EFAULT, self->vmm.container, request, __part);			\
	REFUSED(EFAULT, self->vmm.container, request, (void *)(1UL << 63));	\
	munmap(__edge - PAGE, PAGE);						\
} while (0)

#endif
