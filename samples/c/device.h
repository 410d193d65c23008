/* SPDX-License-Identifier: GPL-2.0 */
/* Code common to all VFIO clients: a container, a group, and a device (QEMU's edu). */
#ifndef SAMPLES_DEVICE_H
#define SAMPLES_DEVICE_H

#include <stdint.h>

#include "edu_registers.h"

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...);

/* Opens a container, and checks that vfio_pgsize is loaded. */
int open_container(void);
/* Adds the device's group to the container. A container has an IOMMU only after that. */
int open_group(int container, const char *address);

/* edu copies EDU_BUFFER_SIZE bytes between its buffer and memory at addresses up to 256 MiB. */
volatile uint8_t *open_edu(int group, const char *address);
void start_dma(volatile uint8_t *edu, uint64_t source, uint64_t target, uint64_t command);
void finish_dma(volatile uint8_t *edu);

#endif
