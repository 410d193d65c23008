/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest of ccp.ko: memory of this process that is assigned to it and taken back. Each
 * call expects the kernel's function to succeed.
 */
#ifndef SNP_GUEST_H
#define SNP_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "problem.h"
#include "snp_host.h"

struct guest {
	int fd;
	uint8_t *va;
	uint64_t size;
};

/* GPA 0 is `va`. The memory is pinned until the guest ends, and shared again then. */
problem guest_start(struct guest *guest, void *va, uint64_t size);
void guest_stop(struct guest *guest);

problem guest_assign(struct guest *guest, uint64_t gpa, bool huge);
problem guest_share(struct guest *guest, uint64_t gpa, bool huge);
problem guest_smash(struct guest *guest, uint64_t gpa);
/* Assign, or share, each 4K of a range. */
problem guest_assign_pages(struct guest *guest, uint64_t gpa, uint64_t size);
problem guest_share_pages(struct guest *guest, uint64_t gpa, uint64_t size);

/* Whether both kernel and oracle find this in the RMP. */
problem guest_page_is(struct guest *guest, uint64_t gpa, bool assigned, bool huge);

/* From now on fprobes miss calls for the guest; or no longer. */
problem guest_miss(struct guest *guest, bool on);

/* Events of the whole host: see snp_host.h. */
problem guest_switch(struct guest *guest, enum snp_host_switch_op op, uint32_t cpus);
problem guest_stop_queue(struct guest *guest, bool stopped);
/* Does not return. */
problem guest_panic(struct guest *guest, uint64_t smashed, uint64_t shared);

#define ALL_CPUS	(~0U)

/* The kernel adds 1 to the first byte of a page: 0, or -EFAULT. */
int guest_kernel_store(struct guest *guest, uint64_t gpa);

/* Execute an instruction; returns EAX, or SNP_HOST_UNDEFINED. */
uint32_t guest_execute(struct guest *guest, struct snp_host_raw *raw);

#endif
