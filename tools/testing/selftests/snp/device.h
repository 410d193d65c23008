/* SPDX-License-Identifier: GPL-2.0 */
/* What a device can do at an address: a word is read and written by DMA. */
#ifndef SNP_DEVICE_H
#define SNP_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "problem.h"
#include "vmm.h"

struct device {
	struct vmm *vmm;
	int index;
	struct memory scratch;	/* through which words go to the device and come back */
};

/* What came of the two transfers. */
struct access {
	bool read;
	bool written;
	uint64_t faults;	/* of the RMP, as QEMU counted them */
	uint64_t size_faults;	/* of these, for a leaf that is too large */
};

/*
 * Takes an edu device of an open VMM, and an IOVA of its own: the VMM's first has SCRATCH_IOVA,
 * the next one the page behind it ...
 */
#define SCRATCH_IOVA	(1ULL << 44)
problem device_start(struct device *device, struct vmm *vmm, int index);
void device_stop(struct device *device);

/*
 * Try it, and do not count faults. The memory of `iova` is at `va`, no byte of it is 0,
 * and it is not written by us.
 */
problem device_try(struct device *device, uint64_t iova, const uint8_t *va, struct access *access);
/* Try it, and count. */
problem device_access(struct device *device, uint64_t iova, const uint8_t *va,
		      struct access *access);

/* Both transfers succeed, without an event. */
problem device_works(struct device *device, uint64_t iova, const uint8_t *va);

enum fault {
	FAULT_ASSIGNED,		/* the page itself is assigned */
	FAULT_SIZE,		/* the leaf covers a page that is */
};

/* Both are aborted, each with an event. */
problem device_is_refused(struct device *device, uint64_t iova, const uint8_t *va, enum fault why);
/* The same, and the kernel logs device and page; it does so for few events a second. */
problem device_faults(struct device *device, uint64_t iova, const uint8_t *va, enum fault why);

#endif
