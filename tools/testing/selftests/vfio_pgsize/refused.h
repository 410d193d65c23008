/* SPDX-License-Identifier: GPL-2.0 */
/* Requests that fail and change nothing, for fixtures with a `vmm` and its state `before`. */
#ifndef VFIO_PGSIZE_REFUSED_H
#define VFIO_PGSIZE_REFUSED_H

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "harness.h"
#include "state.h"
#include "units.h"

/* The call fails with this error, and nothing changed. */
#define REFUSED(error, container, request, arg) do {				\
	int __ret = ioctl(container, request, arg);				\
										\
	EXPECT_EQ(-1, __ret);							\
	if (__ret < 0)								\
		EXPECT_EQ(error, errno);					\
	EXPECT_SOUND(state_is(&self->vmm, &self->before));			\
} while (0)

/* A valid request with one bad field. */
#define WRONG(error, request, good, field, value) do {				\
	__typeof__(good) __wrong = good;					\
										\
	__wrong.field = value;							\
	TH_LOG("%s: %s = %s", #request, #field, #value);			\
	REFUSED(error, self->vmm.container, request, &__wrong);			\
} while (0)

/* Two fields that contradict each other. */
#define WRONG2(error, request, good, field, value, field2, value2) do {		\
	__typeof__(good) __good2 = good;					\
										\
	__good2.field2 = value2;						\
	WRONG(error, request, __good2, field, value);				\
} while (0)

/* An argument that is not readable or not writable, entirely or partly. */
static inline uint8_t *edge_of_memory(void)
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
