/* SPDX-License-Identifier: GPL-2.0 */
/*
 * QEMU's edu device as a DMA engine: it copies between its own buffer and memory. QEMU's
 * docs/specs/edu.rst describes it.
 */
#ifndef SAMPLES_EDU_REGISTERS_H
#define SAMPLES_EDU_REGISTERS_H

#include <stdbool.h>
#include <stdint.h>

#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8
#define EDU_BAR_SIZE	0x100000

#define EDU_SOURCE	0x80
#define EDU_TARGET	0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98

/* Bits of EDU_COMMAND. EDU_RUN stays set until the transfer ends. */
#define EDU_RUN		1
#define EDU_TO_MEMORY	2

#define EDU_BUFFER	0x40000ULL
#define EDU_BUFFER_SIZE	4096

static inline void edu_write_wide(volatile uint8_t *edu, uint32_t at, uint64_t value)
{
	*(volatile uint64_t *)(edu + at) = value;
}

static inline bool edu_is_busy(volatile uint8_t *edu)
{
	return *(volatile uint64_t *)(edu + EDU_COMMAND) & EDU_RUN;
}

/* Starts a transfer. Either `source` or `target` is EDU_BUFFER. */
static inline void edu_start(volatile uint8_t *edu, uint64_t source, uint64_t target, uint64_t size,
			     uint64_t direction)
{
	edu_write_wide(edu, EDU_SOURCE, source);
	edu_write_wide(edu, EDU_TARGET, target);
	edu_write_wide(edu, EDU_COUNT, size);
	edu_write_wide(edu, EDU_COMMAND, EDU_RUN | direction);
}

#endif
