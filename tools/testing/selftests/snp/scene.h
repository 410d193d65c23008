/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The common start of tests of an SNP host: memory in 2M, a guest with this memory, and a VMM
 * with one device. Also the addresses of its pieces, and macros for a fixture `self`.
 */
#ifndef SNP_SCENE_H
#define SNP_SCENE_H

#include "device.h"
#include "follow.h"
#include "guest.h"
#include "problem.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(4)
#define AT_TOO	GIB(8)
#define PIECE(i) ((i) * MIB(2))
/* A page within a piece. */
#define PAGE_OF(i, page) (PIECE(i) + (page) * PAGE)
#define BIT(i)	(1ULL << (i))

/* Opens all, and maps nothing. `device` may be NULL for a test that does no DMA. */
problem scene_open(struct vmm *vmm, struct memory *memory, struct guest *guest,
		   struct device *device, uint64_t size);
/* Closes all, the VMM first, while pages are still assigned. It leaves nothing behind. */
problem scene_close(struct vmm *vmm, struct memory *memory, struct guest *guest,
		    struct device *device);

/* Maps all memory at AT, and follows it with 2M and 4K leaves. */
problem scene_follow(struct vmm *vmm, const struct memory *memory);

#define MAP(at) ASSERT_SOUND(vmm_map(&self->vmm, at, self->memory.va, SIZE, READ_WRITE))
#define POLICY(flags) ASSERT_SOUND(vmm_policy(&self->vmm, flags, UPTO_2M))
#define STATS(stats) ASSERT_SOUND(follow_stats(&self->vmm, stats))
#define ASSIGN(at) ASSERT_SOUND(guest_assign(&self->guest, at, false))
#define SHARE(at) ASSERT_SOUND(guest_share(&self->guest, at, false))
#define WORKS(at) \
	EXPECT_SOUND(device_works(&self->device, AT + (at), self->memory.va + (at)))

/* The pieces of the only mapping that have 4K leaves: bit i is piece i. */
#define SMALL(bits) \
	EXPECT_SOUND(follow_has(&self->vmm, \
				&(struct mapped){ AT, self->memory.va, SIZE, bits }, 1, 1))
#define SMALL_SOON(bits) \
	EXPECT_SOUND(follow_has_soon(&self->vmm, \
				     &(struct mapped){ AT, self->memory.va, SIZE, bits }, 1, 1))

#endif
