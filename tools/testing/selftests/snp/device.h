/* SPDX-License-Identifier: GPL-2.0 */
/* What a device can do at an address: DMA reads and writes a word. */
#ifndef SNP_DEVICE_H
#define SNP_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "problem.h"
#include "vmm.h"

struct device {
	struct vmm *vmm;
	int index;
	struct memory scratch;	/* words go to the device and back through it */
};

/* The results of the two transfers. */
struct access {
	bool read;
	bool written;
	uint64_t faults;	/* of the RMP, counted by QEMU */
	uint64_t size_faults;	/* of these, because a leaf is too large */
};

/*
 * Takes an edu device of an open VMM, and its own IOVA: SCRATCH_IOVA for the VMM's first,
 * the page after it for the second ...
 */
#define SCRATCH_IOVA	(1ULL << 44)
problem device_start(struct device *device, struct vmm *vmm, int index);
void device_stop(struct device *device);

/*
 * Try it, without counting faults. The memory of `iova` is at `va`, contains no zero byte,
 * and is not written by the test.
 */
problem device_try(struct device *device, uint64_t iova, const uint8_t *va, struct access *access);
/* Try it, and count. */
problem device_access(struct device *device, uint64_t iova, const uint8_t *va,
		      struct access *access);

/* Both transfers succeed, without an event. */
problem device_works(struct device *device, uint64_t iova, const uint8_t *va);

enum fault {
	FAULT_ASSIGNED,		/* the page itself is assigned */
	FAULT_SIZE,		/* the leaf covers an assigned page */
};

/* Both are aborted, each with an event. */
problem device_is_refused(struct device *device, uint64_t iova, const uint8_t *va, enum fault why);
/* The same, and the kernel logs device and page; it logs only a few events a second. */
problem device_faults(struct device *device, uint64_t iova, const uint8_t *va, enum fault why);

#endif
