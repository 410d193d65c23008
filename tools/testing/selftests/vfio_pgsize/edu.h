/* SPDX-License-Identifier: GPL-2.0 */
/*
 * QEMU's edu device as a DMA engine: it copies up to 4096 bytes between an IOVA and its
 * own buffer, a tenth of a second after the command.
 */
#ifndef VFIO_PGSIZE_EDU_H
#define VFIO_PGSIZE_EDU_H

#include <stdint.h>

#include "../../../../samples/c/edu_registers.h"
#include "problem.h"

/* Stores what is written to it, inverted: a target for other devices. */
#define EDU_LIVENESS	0x04

#define BDF_SIZE	13

struct edu {
	int device;
	volatile uint8_t *registers;
	uint64_t bar_phys;
};

/* The PCI address of the machine's edu device number `index`, in rising order. */
problem edu_find(int index, char bdf[BDF_SIZE]);

/* Takes ownership of the device's file descriptor. */
problem edu_open(struct edu *edu, int device, const char *bdf);
void edu_close(struct edu *edu);

uint32_t edu_read_register(struct edu *edu, uint32_t at);
void edu_write_register(struct edu *edu, uint32_t at, uint32_t value);

/* Memory at `iova` to the device's buffer; from the buffer to `iova`. */
problem edu_fetch(struct edu *edu, uint64_t iova, uint32_t size);
problem edu_store(struct edu *edu, uint64_t iova, uint32_t size);

/*
 * Make the device read a page at `from` and write it at `to`, and check that the bytes
 * arrived. The memory of the two IOVAs is at *_va.
 */
problem edu_copy(struct edu *edu, uint64_t from, uint8_t *from_va, uint64_t to, uint8_t *to_va,
		 uint32_t size);

/* Bytes that differ from one call to the next. */
void fill_with_pattern(uint8_t *at, uint32_t size);

#endif
