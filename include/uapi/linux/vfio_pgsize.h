/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * vfio_pgsize: IOMMU page sizes chosen by the VMM, for a VFIO container and its ranges.
 *
 * The ioctls below are calls on a VFIO container (/dev/vfio/vfio) of the type
 * VFIO_PGSIZE_IOMMU, or of VFIO_TYPE1v2_IOMMU or VFIO_TYPE1_IOMMU if vfio_pgsize
 * serves that type.
 * ioctl(container, VFIO_CHECK_EXTENSION, VFIO_PGSIZE_IOMMU) returns the version of
 * this interface, or 0.
 *
 * The calls follow VFIO's conventions. The caller sets @argsz to the size of the
 * structure. A short @argsz, an unknown flag or a nonzero reserved field is
 * -EINVAL. Structures may grow at their end. A call that fails changes nothing
 * unless its description says otherwise.
 *
 * A leaf is an IOMMU page-table entry that translates. Its size is the page size
 * that the device sees.
 */
#ifndef _UAPI_LINUX_VFIO_PGSIZE_H
#define _UAPI_LINUX_VFIO_PGSIZE_H

#include <linux/types.h>
#include <linux/vfio.h>

/**
 * VFIO_PGSIZE_IOMMU - argument of VFIO_SET_IOMMU and VFIO_CHECK_EXTENSION
 *
 * An IOMMU type with the semantics of VFIO_TYPE1v2_IOMMU plus the calls below.
 * The number ("PGSZ") is far from those that <linux/vfio.h> allocates.
 *
 * VFIO_IOMMU_UNMAP_DMA can also unmap a part of a mapping. The rest stays translated
 * at each instant, and each piece becomes its own mapping. This can fail with -ENOMEM,
 * or with -ENOSPC if there would be too many mappings. Nothing is unmapped then, but
 * smaller leaves may have replaced a leaf of more than 2M that follows the RMP. It fails
 * with -EINVAL, as on type1, if the page table of a domain cannot be edited in place
 * (any format but AMD's host format).
 *
 * VFIO_GROUP_SET_CONTAINER and VFIO_SET_IOMMU fail with -EOPNOTSUPP for a group whose
 * domain would have such a page table, if leaves of the container follow the RMP or
 * it has mappings with VFIO_PGSIZE_MAP_STATEFUL.
 */
#define VFIO_PGSIZE_IOMMU	0x5047535a

/**
 * VFIO_PGSIZE_VERSION - what VFIO_CHECK_EXTENSION returns
 *
 * From the first release on it grows when calls, flags or fields are added. Later
 * versions have everything that earlier ones have. A VMM asks for the version that it
 * needs, or more.
 */
#define VFIO_PGSIZE_VERSION	1

/**
 * VFIO_PGSIZE_ALL - in a set of leaf sizes: every size that the IOMMU supports
 *
 * Stands for the sizes of each IOMMU in the container, present and future.
 */
#define VFIO_PGSIZE_ALL		(~0ULL)

/**
 * VFIO_PGSIZE_INFO_CAP - id of the capability in VFIO_IOMMU_GET_INFO
 */
#define VFIO_PGSIZE_INFO_CAP	0x5047

/**
 * struct vfio_pgsize_info_cap - policy and number, in VFIO_IOMMU_GET_INFO
 * @header: id VFIO_PGSIZE_INFO_CAP, version 1
 * @supported: leaf sizes, in bytes, that every IOMMU in the container supports
 * @pgsizes: the container's policy: VFIO_PGSIZE_ALL, or a set of leaf sizes
 * @max_ranges: number of ranges that can have their own policy
 * @nr_ranges: number of ranges that have one now
 * @container: number of the container, as in /sys/kernel/debug/vfio_pgsize/, trace
 *	events and the kernel log. Not used again while the module is loaded
 */
struct vfio_pgsize_info_cap {
	struct vfio_info_cap_header header;
	__aligned_u64 supported;
	__aligned_u64 pgsizes;
	__u32 max_ranges;
	__u32 nr_ranges;
	__aligned_u64 container;
};

/**
 * struct vfio_pgsize_policy - VFIO_PGSIZE_GET_POLICY, VFIO_PGSIZE_SET_POLICY
 * @argsz: size of this structure, in bytes
 * @flags: VFIO_PGSIZE_POLICY_* below
 * @iova: with RANGE, the start of the range, in bytes; without, must be 0.
 *	A multiple of 4096.
 * @size: with RANGE, the length of the range, in bytes; without, must be 0.
 *	A multiple of 4096, not 0; @iova + @size - 1 must not overflow.
 * @pgsizes: the set of allowed leaf sizes, one bit a size (4096 is bit 12), or
 *	VFIO_PGSIZE_ALL. Must contain 4096, and otherwise only sizes that
 *	GET_INFO lists as supported.
 *
 * VFIO_PGSIZE_SET_POLICY: later maps use leaves of these sizes only, each as
 * large as alignment and contiguity allow. Without VFIO_PGSIZE_POLICY_RANGE the
 * call sets the container's policy, which applies wherever no range has its own
 * policy. A range replaces earlier policies of the same addresses; it need not
 * be mapped. The policy applies to every IOMMU domain of the container,
 * including those of groups that are attached later. A container starts with
 * VFIO_PGSIZE_ALL, or with the default of the module's parameters default_pgsizes and
 * default_follow.
 *
 * VFIO_PGSIZE_POLICY_APPLY also converts mapped memory in the range (or, for the
 * container, wherever its policy applies): afterwards the leaves are those that
 * a map under the new policy would have made. The translation of every mapped
 * address stays the same at each instant, so DMA may continue. If the page table
 * of a domain cannot be edited in place (any format but AMD's host format), the
 * call fails.
 *
 * VFIO_PGSIZE_POLICY_INHERIT (with RANGE, @pgsizes 0) removes the range's own
 * policy: the container's applies there again.
 *
 * VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT: leaves of 2M and more follow the RMP. Before
 * the RMP entry of a 2M is smashed (PSMASH), or one 4K page of it is assigned, by
 * any caller, the 2M gets 4K leaves. Nothing else changes. Later maps over such a 2M
 * use 4K leaves from the start. The flag takes effect at once, also on mapped memory:
 * leaves that disagree with the RMP are split. Without memory for a split the leaf is
 * unmapped, and mapped again with 4K leaves as soon as there is memory; see
 * VFIO_PGSIZE_GET_STATS. A 2M that has 4K leaves but did not break (the call failed,
 * or was about another 2M) gets its leaf back within about a second. In a container,
 * at most 1024 mappings of one page of memory can follow the RMP, counted in all its
 * domains; beyond that this call, VFIO_IOMMU_MAP_DMA and attaching a group fail with
 * -EMLINK.
 *
 * VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE (with ON_SMASH_SPLIT): a 2M that gets a 2M RMP
 * entry, or is shared as a whole, gets its leaf back, of at most 2M. So does, within
 * about a second, a 2M that was shared page by page.
 *
 * Where leaves follow the RMP, VFIO_PGSIZE_POLICY_APPLY does not merge to leaves
 * larger than 2M.
 *
 * VFIO_PGSIZE_POLICY_TRACKING (@iova and @size 0, no other flag but APPLY): @pgsizes
 * are the sizes that leaves may have while dirty tracking is on, besides 4096: those
 * that are in the policy, too, and where leaves follow the RMP none. The set starts with
 * 4096 alone. Takes effect when tracking
 * begins, or, if it is on, for what is mapped from now on, and with APPLY for what is
 * mapped. Has no effect where an IOMMU has no dirty bits. GET_POLICY with this flag
 * returns the set.
 *
 * VFIO_PGSIZE_GET_POLICY: writes @pgsizes, and the flags ON_SMASH_SPLIT and
 * ON_WHOLE_MERGE, of the container, or with VFIO_PGSIZE_POLICY_RANGE of the address
 * @iova. With RANGE @size is, on return, the number of bytes from @iova with the same
 * policy, at most 2^64 - 4096, and the flag VFIO_PGSIZE_POLICY_INHERIT says that the
 * policy is the container's. On entry @size and @pgsizes must be 0, and RANGE is the
 * only valid flag.
 *
 * Return: 0, or
 * -EINVAL: bad @argsz, flag, alignment, or set of sizes;
 * -EOVERFLOW: @iova + @size - 1 overflows;
 * -ENOSPC: too many ranges with their own policy (see max_ranges);
 * -EMLINK: ON_SMASH_SPLIT, and a page of memory has too many mappings;
 * -ENOMEM: no memory. With APPLY the policy is unchanged, and each leaf is one
 *	of the old or the new policy;
 * -EOPNOTSUPP: APPLY or ON_SMASH_SPLIT, and the page table of a domain cannot be
 *	edited in place; ON_SMASH_SPLIT, and this is not an SNP host, SNP is off, or
 *	the kernel cannot be probed (PREEMPT_RT, or functions without fprobe support);
 * -EINTR: APPLY, and a fatal signal arrived; otherwise as -ENOMEM;
 * -EIO: APPLY, and unexpected page-table contents: a bug. The kernel log says
 *	where; otherwise as -ENOMEM;
 * -EFAULT: @arg is not readable or not writable.
 */
struct vfio_pgsize_policy {
	__u32 argsz;
	__u32 flags;
#define VFIO_PGSIZE_POLICY_RANGE	(1 << 0)
#define VFIO_PGSIZE_POLICY_APPLY	(1 << 1)
#define VFIO_PGSIZE_POLICY_INHERIT	(1 << 2)
#define VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT	(1 << 3)
#define VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE	(1 << 4)
#define VFIO_PGSIZE_POLICY_TRACKING	(1 << 5)
	__aligned_u64 iova;
	__aligned_u64 size;
	__aligned_u64 pgsizes;
};

#define VFIO_PGSIZE_GET_POLICY	_IO(VFIO_TYPE, VFIO_BASE + 100)
#define VFIO_PGSIZE_SET_POLICY	_IO(VFIO_TYPE, VFIO_BASE + 101)

/**
 * struct vfio_pgsize_run - a run of adjacent like leaves
 * @iova: start of the first leaf, in bytes
 * @size: bytes that the run covers: a multiple of @pgsize
 * @pgsize: size of each leaf, in bytes: a power of two; 0 with RUN_PRIVATE
 * @flags: VFIO_PGSIZE_RUN_*: what the device may do
 * @reserved: 0
 *
 * Adjacent leaves that differ only in their addresses are in one run, whether or
 * not they are contiguous in memory. Physical addresses are not reported.
 *
 * VFIO_PGSIZE_RUN_RMP_4K, VFIO_PGSIZE_RUN_RMP_2M, VFIO_PGSIZE_RUN_ASSIGNED: only with
 * VFIO_PGSIZE_QUERY_RMP. For each leaf of the run: an RMP entry under it is 4K; one is
 * 2M (a leaf of more than 2M can have both); a frame under it is assigned to a guest. A
 * frame that is not assigned counts as a 4K entry. Neither of the first two: the RMP has
 * no entries for the leaf, as for device registers, or SNP is off.
 *
 * VFIO_PGSIZE_RUN_PRIVATE: the run is not leaves but private pages (see
 * VFIO_PGSIZE_SET_STATE). The mapping determines what the device may do.
 */
struct vfio_pgsize_run {
	__aligned_u64 iova;
	__aligned_u64 size;
	__aligned_u64 pgsize;
	__u32 flags;
#define VFIO_PGSIZE_RUN_READ	(1 << 0)
#define VFIO_PGSIZE_RUN_WRITE	(1 << 1)
#define VFIO_PGSIZE_RUN_RMP_4K	(1 << 2)
#define VFIO_PGSIZE_RUN_RMP_2M	(1 << 3)
#define VFIO_PGSIZE_RUN_ASSIGNED	(1 << 4)
#define VFIO_PGSIZE_RUN_PRIVATE	(1 << 5)
	__u32 reserved;
};

/**
 * struct vfio_pgsize_query - VFIO_PGSIZE_QUERY: the leaves of a range
 * @argsz: size of this structure, in bytes
 * @flags: 0, VFIO_PGSIZE_QUERY_MISMATCH or VFIO_PGSIZE_QUERY_STATE; and
 *	VFIO_PGSIZE_QUERY_RMP
 * @iova: in: start of the range, in bytes, a multiple of 4096. Out: start of
 *	the next call
 * @size: in: length of the range, in bytes, a multiple of 4096, not 0. Out:
 *	length of the rest; 0 if all was reported
 * @domain: number of one of the container's IOMMU domains, from 0
 * @nr: in: number of elements of @runs. Out: number of runs written
 * @runs: address of an array of struct vfio_pgsize_run
 *
 * The call reads the page table itself, in rising order, and omits unmapped parts.
 * A leaf that crosses the start or the end of the range is reported whole. One call
 * reports at most 1024 runs; call again with the returned @iova and @size until
 * @size is 0. Each call is atomic against map, unmap and policy changes; a sequence
 * of calls is not.
 *
 * VFIO_PGSIZE_QUERY_MISMATCH reports only leaves that disagree with the RMP, through
 * which DMA fails: leaves of 2M or more, over a 2M with 4K RMP entries of which one is
 * assigned. Where leaves follow the RMP there are none. Nothing has to follow for the
 * audit.
 *
 * VFIO_PGSIZE_QUERY_RMP also reports the RMP entries under the leaves of each run.
 * Leaves for which they differ are not joined. A guest may change the RMP at any moment;
 * the report is of the moment of the read. The call reads the RMP once for each 4K leaf
 * and each 2M of a larger leaf if the entry is 2M; otherwise twice for a 4K leaf, and up
 * to 1024 times for such a 2M, until it finds an assigned frame.
 *
 * VFIO_PGSIZE_QUERY_STATE also reports private pages, as runs with
 * VFIO_PGSIZE_RUN_PRIVATE. Adjacent ones are joined.
 *
 * Return: 0, or
 * -EINVAL: bad @argsz, flag, alignment, or @nr is 0;
 * -EOVERFLOW: @iova + @size - 1 overflows;
 * -ENOENT: no such domain: @domain is their number or more;
 * -EOPNOTSUPP: the domain's page table is in a format that the module cannot
 *	read (any but AMD's host format); MISMATCH or RMP, and this is not an SNP
 *	host, or SNP is off;
 * -ENOMEM: no memory; -EINTR: a fatal signal arrived;
 * -EFAULT: @arg or @runs is not accessible.
 */
struct vfio_pgsize_query {
	__u32 argsz;
	__u32 flags;
#define VFIO_PGSIZE_QUERY_MISMATCH	(1 << 0)
#define VFIO_PGSIZE_QUERY_RMP		(1 << 1)
#define VFIO_PGSIZE_QUERY_STATE		(1 << 2)
	__aligned_u64 iova;
	__aligned_u64 size;
	__u32 domain;
	__u32 nr;
	__aligned_u64 runs;
};

#define VFIO_PGSIZE_QUERY	_IO(VFIO_TYPE, VFIO_BASE + 102)

/**
 * struct vfio_pgsize_stats - VFIO_PGSIZE_GET_STATS: counters of following the RMP
 * @argsz: size of this structure, in bytes; without the members from @joined on, 72
 * @flags: must be 0
 * @splits: leaves that were split, in all domains
 * @merges: leaves that replaced smaller ones
 * @fallbacks: leaves that were unmapped because there was no memory to split them
 * @repairs: ranges that were mapped again after that
 * @missed: calls that the kernel did not report, for all containers, since one
 *	began to follow when none did. Within about a second of each, all leaves
 *	that follow are checked, and split if they disagree with the RMP
 * @mismatches: leaves that disagreed with the RMP, each time one was found by
 *	VFIO_PGSIZE_QUERY_MISMATCH or after a missed call
 * @shared: shared bytes of mappings with VFIO_PGSIZE_MAP_STATEFUL
 * @stateful: all bytes of such mappings
 * @joined: mapped bytes of joined mappings (VFIO_PGSIZE_MAP_JOINED, or the module
 *	parameter join_mappings)
 * @joined_entries: number of joined mappings
 *
 * All except @missed and those from @shared on count from VFIO_SET_IOMMU. For a
 * notification of @fallbacks, @missed and @mismatches see VFIO_PGSIZE_SET_EVENT.
 *
 * Return: 0, or -EINVAL: bad @argsz or flag; -EFAULT: @arg is not accessible.
 */
struct vfio_pgsize_stats {
	__u32 argsz;
	__u32 flags;
	__aligned_u64 splits;
	__aligned_u64 merges;
	__aligned_u64 fallbacks;
	__aligned_u64 repairs;
	__aligned_u64 missed;
	__aligned_u64 mismatches;
	__aligned_u64 shared;
	__aligned_u64 stateful;
	__aligned_u64 joined;
	__aligned_u64 joined_entries;
};

#define VFIO_PGSIZE_GET_STATS	_IO(VFIO_TYPE, VFIO_BASE + 103)

/**
 * struct vfio_pgsize_event - VFIO_PGSIZE_SET_EVENT: set an eventfd for failures
 * @argsz: size of this structure, in bytes
 * @flags: must be 0
 * @fd: an eventfd, or -1 to remove it
 * @reserved: must be 0
 *
 * The module signals the eventfd soon after a leaf was unmapped because there was no
 * memory (@fallbacks of VFIO_PGSIZE_GET_STATS), a leaf was found to disagree with the
 * RMP (@mismatches), or the kernel did not report a call while leaves followed
 * (@missed); the counters tell which. It also signals once if the host disables SNP
 * while leaves follow the RMP; they stay as if there was no RMP. Several of these can be
 * one signal. Before it signals, the module repairs what it can: it splits leaves that
 * disagree, and maps again what was unmapped, if there is memory.
 *
 * The call replaces an earlier eventfd. The container keeps the eventfd until its last
 * group leaves, whether or not the VMM closes the descriptor.
 *
 * Return: 0, or
 * -EINVAL: bad @argsz or flag, @reserved is not 0, or @fd is not an eventfd;
 * -EBADF: @fd is not an open file; -EFAULT: @arg is not readable.
 */
struct vfio_pgsize_event {
	__u32 argsz;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
};

#define VFIO_PGSIZE_SET_EVENT	_IO(VFIO_TYPE, VFIO_BASE + 104)

/*
 * Page states: devices may use some pages of a memory range, *shared* ones, but not
 * the others, *private* ones. One VFIO_IOMMU_MAP_DMA with VFIO_PGSIZE_MAP_STATEFUL
 * describes the range, and VFIO_PGSIZE_SET_STATE sets the state of its pages. Only
 * shared pages are pinned, locked (RLIMIT_MEMLOCK), and mapped in the IOMMU. The range
 * counts as one mapping, whatever its states. VFIO_PGSIZE_IOMMU only.
 */

/**
 * VFIO_PGSIZE_MAP_STATEFUL - flag of VFIO_IOMMU_MAP_DMA: pages have a state
 *
 * All pages are private at first: nothing is pinned, and @vaddr need not be
 * backed by memory yet. The addresses must be valid for a mapping.
 *
 * In addition to its own errors, VFIO_IOMMU_MAP_DMA fails with this flag with
 * -EINVAL: the container is not of VFIO_PGSIZE_IOMMU;
 * -EOPNOTSUPP: the page table of a domain cannot be edited in place (any format but
 *	AMD's host format).
 */
#define VFIO_PGSIZE_MAP_STATEFUL	(1 << 16)

/**
 * VFIO_PGSIZE_MAP_SHARED - with VFIO_PGSIZE_MAP_STATEFUL: all pages are shared at first
 *
 * -EINVAL without that flag; -EFAULT if a part of the range is device registers, which
 * have no state.
 */
#define VFIO_PGSIZE_MAP_SHARED		(1 << 17)

/**
 * VFIO_PGSIZE_MAP_JOINED - flag of VFIO_IOMMU_MAP_DMA: join this mapping with others
 *
 * For VMMs that map memory in many small pieces. All pieces in one aligned 1G of IOVAs
 * become one mapping if they have this flag, the same process and access, and the
 * same difference between IOVA and @vaddr. They need not be adjacent. A joined
 * mapping counts against the module parameter joined_entry_limit, not against
 * dma_entry_limit. When all pages of an aligned 2M are mapped, and contiguous in
 * memory, their leaves are merged while devices use them.
 *
 * A piece of more than 32M, one that crosses a multiple of 1G, and device
 * registers are mapped as without the flag, and so is a piece that would exceed
 * joined_entry_limit.
 *
 * -EINVAL with VFIO_PGSIZE_MAP_STATEFUL, and in containers of VFIO_TYPE1_IOMMU and
 * VFIO_TYPE1v2_IOMMU, where the module parameter join_mappings joins all pieces.
 */
#define VFIO_PGSIZE_MAP_JOINED		(1 << 18)

/**
 * struct vfio_pgsize_state - one change of VFIO_PGSIZE_SET_STATE
 * @iova: start of the pages, in bytes, a multiple of 4096
 * @size: their length in bytes, a multiple of 4096, not 0
 * @state: VFIO_PGSIZE_STATE_PRIVATE or VFIO_PGSIZE_STATE_SHARED
 * @reserved: must be 0
 *
 * The range must lie in one stateful mapping. Pages that already have the state keep
 * it, and their leaves.
 */
struct vfio_pgsize_state {
	__aligned_u64 iova;
	__aligned_u64 size;
	__u32 state;
#define VFIO_PGSIZE_STATE_PRIVATE	0
#define VFIO_PGSIZE_STATE_SHARED	1
	__u32 reserved;
};

/**
 * struct vfio_pgsize_set_state - VFIO_PGSIZE_SET_STATE: change the state of pages
 * @argsz: size of this structure, in bytes
 * @flags: must be 0
 * @nr: in: number of changes, not 0. Out: number of completed changes
 * @reserved: must be 0
 * @changes: address of an array of struct vfio_pgsize_state
 *
 * The call makes the changes in order. To share, it pins the pages and maps them in
 * every IOMMU domain with the largest leaves that the policy, the memory and, where
 * leaves follow the RMP, the RMP allow; a 2M that is whole again gets a 2M leaf. To make
 * private, it splits leaves, while pages that stay shared remain translated; then it
 * unmaps the pages, flushes the IOTLB, and unpins the pages. The host may reuse the
 * pages as soon as the call returns.
 *
 * If the call fails, @nr is the number of completed changes, from the first on. The
 * next one is the cause. It and all later ones have no effect.
 *
 * Only the process that made the mapping can share pages: they are pages of its
 * memory.
 *
 * Return: 0, or
 * -EINVAL: bad @argsz, flag or reserved field, or @nr is 0 (@nr is unchanged);
 *	a change with a bad alignment, size or state;
 * -EOVERFLOW: a change whose @iova + @size - 1 overflows;
 * -ENOENT: a change that is not within one stateful mapping;
 * -ENOTTY: the container is not of VFIO_PGSIZE_IOMMU, and has no page states;
 * -EBUSY: to share, and the memory has no address now (VFIO_DMA_UNMAP_FLAG_VADDR);
 * -EPERM: to share, and the calling process did not make the mapping;
 * -EFAULT: the memory does not exist, is device registers, or is read-only and the
 *	device may write; or @arg or @changes is not accessible (for @arg, @nr is
 *	unchanged);
 * -ENOMEM: no memory, or beyond RLIMIT_MEMLOCK;
 * -EIO: unexpected page-table contents: a bug. The kernel log says where;
 * -EMLINK: as for VFIO_IOMMU_MAP_DMA: see VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT;
 * -EINTR: a fatal signal arrived.
 */
struct vfio_pgsize_set_state {
	__u32 argsz;
	__u32 flags;
	__u32 nr;
	__u32 reserved;
	__aligned_u64 changes;
};

#define VFIO_PGSIZE_SET_STATE	_IO(VFIO_TYPE, VFIO_BASE + 105)

#endif /* _UAPI_LINUX_VFIO_PGSIZE_H */
