/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The interface of ccp.ko to tests. An open file of the device is a guest: its memory is
 * given once and pinned, GPA 0 is its first byte, and closing the file shares all of it
 * again.
 */
#ifndef SNP_HOST_H
#define SNP_HOST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define SNP_HOST_DEVICE		"snp-host"

/* The guest's memory: pages of the caller, both numbers multiples of 4096. */
struct snp_host_memory {
	__u64 va;
	__u64 size;
};

enum snp_host_op {
	SNP_HOST_ASSIGN,	/* rmp_make_private() */
	SNP_HOST_SHARE,		/* rmp_make_shared() */
	SNP_HOST_SMASH,		/* psmash() */
	SNP_HOST_LOOKUP,	/* snp_lookup_rmpentry() */
	SNP_HOST_STORE,		/* a store by the kernel: adds 1 to the first byte */
};

/*
 * Calls of KVM, for one page of the guest. ASSIGN and SHARE fail with -EBUSY if RMPUPDATE
 * would find an overlap, on which Linux retries forever.
 */
struct snp_host_page {
	__u64 gpa;
	__u32 op;
	__u32 huge;		/* in: a 2M page; LOOKUP, out: a 2M entry */
	__u32 assigned;		/* LOOKUP, out */
	__s32 result;		/* out: the return value of the kernel's function */
};

enum snp_host_insn {
	SNP_HOST_PSMASH,
	SNP_HOST_RMPUPDATE,
	SNP_HOST_RMPREAD,
};

#define SNP_HOST_UNDEFINED	(~0U)	/* the instruction does not exist: #UD */

/* Executes an instruction on any system physical address; nothing is refused. */
struct snp_host_raw {
	__u64 spa;
	__u32 insn;
	__u32 eax;		/* out: its result, or SNP_HOST_UNDEFINED */
	/* RMPUPDATE: in; RMPREAD: out */
	__u64 gpa;
	__u8 assigned;
	__u8 pagesize;
	__u8 immutable;
	__u8 reserved;
	__u32 asid;
};

/* While enabled, fprobes miss KVM's calls: it needs more room than ftrace has for them. */
struct snp_host_miss {
	__u32 on;
};

enum snp_host_switch_op {
	SNP_HOST_CPU_ON,	/* SNP, on some processors; snp_prepare() does all */
	SNP_HOST_CPU_OFF,	/* the firmware does all */
	SNP_HOST_IOMMU_OFF,	/* the IOMMU checks no DMA until the next CPU_ON */
	SNP_HOST_LEFTOVERS,	/* unassigned entries keep a stale size */
};

struct snp_host_switch {
	__u32 op;
	__u32 cpus;	/* bit i: processor i */
};

/* Until it is released, the IOMMU's driver waits in vain for the IOMMU. */
struct snp_host_queue {
	__u32 stopped;
};

/*
 * The kernel panics. Its notifiers smash a 2M of the guest, share a page, and take the IOMMU's
 * own pages back.
 */
struct snp_host_panic {
	__u64 smashed;	/* its GPA */
	__u64 shared;
};

#define SNP_HOST_MEMORY	_IOW('S', 0, struct snp_host_memory)
#define SNP_HOST_PAGE	_IOWR('S', 1, struct snp_host_page)
#define SNP_HOST_RAW	_IOWR('S', 2, struct snp_host_raw)
#define SNP_HOST_MISS	_IOW('S', 3, struct snp_host_miss)
#define SNP_HOST_SWITCH	_IOW('S', 4, struct snp_host_switch)
#define SNP_HOST_QUEUE	_IOW('S', 5, struct snp_host_queue)
#define SNP_HOST_PANIC	_IOW('S', 6, struct snp_host_panic)

#endif
