/* SPDX-License-Identifier: GPL-2.0 */
/* What any VFIO client does: a container, a group, and a device, which is QEMU's edu. */
#ifndef SAMPLES_DEVICE_H
#define SAMPLES_DEVICE_H

#include <stdint.h>

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...);

/* A container; vfio_pgsize is loaded. */
int open_container(void);
/* The device's group joins the container: only then has that an IOMMU. */
int open_group(int container, const char *address);

/* edu copies between its buffer and memory; addresses up to 256 MiB. */
#define EDU_BUFFER	0x40000ULL
#define EDU_BUFFER_SIZE	4096
#define EDU_TO_MEMORY	2

volatile uint8_t *open_edu(int group, const char *address);
void start_dma(volatile uint8_t *edu, uint64_t source, uint64_t target, uint64_t command);
void finish_dma(volatile uint8_t *edu);

#endif
