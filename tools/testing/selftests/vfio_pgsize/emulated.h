/* SPDX-License-Identifier: GPL-2.0 */
/* Devices that are software, of emulated_test.ko: each call returns 0, or -errno. */
#ifndef VFIO_PGSIZE_EMULATED_H
#define VFIO_PGSIZE_EMULATED_H

#include <stdint.h>
#include <unistd.h>

#include "accounting.h"
#include "emulated_test.h"
#include "kernel_log.h"
#include "problem.h"

struct emulated {
	int group;
	int device;
};

/* type1 takes its locks in both orders: lockdep says so once, and looks no further then. */
#define SKIP_TYPE1_UNDER_LOCKDEP() do {						\
	if (!variant->parameters && !access("/proc/lockdep", F_OK))		\
		SKIP(return, "lockdep finds fault with type1");			\
} while (0)

/* Have the devices, and no container for their groups yet. */
problem emulated_load(void);

/* Put the group of device number `index` into a container; have the device opened. */
int emulated_join(struct emulated *emulated, int container, int index);
problem emulated_open(struct emulated *emulated, int index);
/* Close what is open. */
void emulated_close(struct emulated *emulated);

int emulated_pin(struct emulated *emulated, uint64_t iova, uint32_t npage, uint32_t prot,
		 uint64_t *pfns);
int emulated_unpin(struct emulated *emulated, uint64_t iova, uint32_t npage);
int emulated_rw(struct emulated *emulated, uint64_t iova, void *data, uint32_t size,
		uint32_t flags);
int emulated_touch(struct emulated *emulated, uint64_t iova, void *data, uint32_t size,
		   uint32_t flags);
int emulated_set(struct emulated *emulated, unsigned long flags);
int emulated_hold(struct emulated *emulated, unsigned long milliseconds);

/* It was told so often, the last time of this range; and has so many pages pinned. */
problem emulated_was_told(struct emulated *emulated, uint32_t calls, uint64_t iova, uint64_t size,
			  uint32_t pinned);

/* A container that has no IOMMU, with the first `devices` of these devices in it. */
struct alone {
	int container;
	struct emulated devices[EMULATED_DEVICES];
	struct account before;
	struct kernel_log log;
};

problem alone_open(struct alone *alone, unsigned long type, int devices);
/* Nothing may be left locked or pinned, and nothing bad be in the log. */
problem alone_close(struct alone *alone);

#endif
