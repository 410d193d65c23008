/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * vfio_pgsize: IOMMU page size chosen by the VMM, per VFIO container and range.
 *
 * The ioctls below are calls on a VFIO container (/dev/vfio/vfio) that was set
 * to VFIO_PGSIZE_IOMMU, or to VFIO_TYPE1v2_IOMMU when vfio_pgsize serves that
 * type. Ask with ioctl(container, VFIO_CHECK_EXTENSION, VFIO_PGSIZE_IOMMU): a
 * positive answer is the version of this interface.
 *
 * They follow VFIO's habits. The caller sets @argsz to the size of the
 * structure; a short @argsz, an unknown flag or a nonzero reserved field is
 * -EINVAL. Structures may grow at their end. A call that fails changes nothing
 * unless its description says otherwise.
 *
 * A leaf is an IOMMU page-table entry that translates: its size is the page
 * size that the device sees.
 */
#ifndef _UAPI_LINUX_VFIO_PGSIZE_H
#define _UAPI_LINUX_VFIO_PGSIZE_H

#include <linux/types.h>
#include <linux/vfio.h>

/**
 * VFIO_PGSIZE_IOMMU - argument of VFIO_SET_IOMMU and VFIO_CHECK_EXTENSION
 *
 * An IOMMU type with the semantics of VFIO_TYPE1v2_IOMMU plus the calls below.
 * The number ("PGSZ") lies far from those that <linux/vfio.h> gives out.
 *
 * VFIO_IOMMU_UNMAP_DMA may also take a part of a mapping away: the mapping is cut
 * there, and what stays is translated all the time. That can fail, and nothing is
 * unmapped then: -ENOMEM, or -ENOSPC if there were too many mappings; a leaf of more
 * than 2M that follows the RMP may have been replaced by smaller ones. In a domain
 * whose page table can not be edited in place (any but AMD's host format) it is
 * refused with -EINVAL, as type1 refuses it.
 *
 * VFIO_GROUP_SET_CONTAINER and VFIO_SET_IOMMU refuse a group whose domain would have
 * such a page table with -EOPNOTSUPP where leaves of the container follow the RMP, or
 * it has mappings with VFIO_PGSIZE_MAP_STATEFUL.
 */
#define VFIO_PGSIZE_IOMMU	0x5047535a

/**
 * VFIO_PGSIZE_VERSION - what VFIO_CHECK_EXTENSION answers
 *
 * From the first release on it grows when calls, flags or fields are added. What a
 * version has, later ones have, too: a VMM asks for the version that it needs, or more.
 */
#define VFIO_PGSIZE_VERSION	1

/**
 * VFIO_PGSIZE_ALL - in a set of leaf sizes: every size that the IOMMU has
 *
 * Stands for the sizes of each IOMMU in the container, present and future.
 */
#define VFIO_PGSIZE_ALL		(~0ULL)

/**
 * VFIO_PGSIZE_INFO_CAP - id of the capability that VFIO_IOMMU_GET_INFO gives
 */
#define VFIO_PGSIZE_INFO_CAP	0x5047

/**
 * struct vfio_pgsize_info_cap - announces the policy in VFIO_IOMMU_GET_INFO
 * @header: id VFIO_PGSIZE_INFO_CAP, version 1
 * @supported: leaf sizes, in bytes, that every IOMMU in the container has
 * @pgsizes: the container's policy: VFIO_PGSIZE_ALL, or a set of leaf sizes
 * @max_ranges: how many ranges may have a policy of their own
 * @nr_ranges: how many have one now
 */
struct vfio_pgsize_info_cap {
	struct vfio_info_cap_header header;
	__aligned_u64 supported;
	__aligned_u64 pgsizes;
	__u32 max_ranges;
	__u32 nr_ranges;
};

/**
 * struct vfio_pgsize_policy - VFIO_PGSIZE_GET_POLICY, VFIO_PGSIZE_SET_POLICY
 * @argsz: size of this structure, in bytes
 * @flags: VFIO_PGSIZE_POLICY_* below
 * @iova: with RANGE, where the range starts, in bytes; without, must be 0.
 *	A multiple of 4096.
 * @size: with RANGE, the length of the range, in bytes; without, must be 0.
 *	A multiple of 4096, not 0; @iova + @size - 1 must not overflow.
 * @pgsizes: the set of allowed leaf sizes, one bit a size (4096 is bit 12), or
 *	VFIO_PGSIZE_ALL. Must hold 4096, and else only sizes that GET_INFO
 *	lists as supported.
 *
 * VFIO_PGSIZE_SET_POLICY: what is mapped from now on gets leaves of these
 * sizes only, each as large as alignment and contiguity allow. Without
 * VFIO_PGSIZE_POLICY_RANGE it sets the container's policy, which holds
 * wherever no range has a policy of its own. A range replaces what was said
 * before of the same addresses; it need not be mapped. The policy holds for
 * every IOMMU domain of the container, those of groups attached later
 * included.
 *
 * VFIO_PGSIZE_POLICY_APPLY also converts what is mapped already within the
 * range (or, for the container, wherever its policy holds): afterwards the
 * leaves are those that mapping under the new policy would have made. The
 * translation of every mapped address stays the same at each instant, so DMA
 * may go on meanwhile. In a domain whose page table the module can not edit in
 * place (any but AMD's host format) the conversion is refused instead.
 *
 * VFIO_PGSIZE_POLICY_INHERIT (with RANGE, @pgsizes 0) takes the range's own
 * policy away: the container's holds there again.
 *
 * VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT: leaves of 2M and more follow the RMP. Before
 * the RMP entry of a 2M is smashed (PSMASH), or one 4K page of it is assigned,
 * whoever does it, the 2M gets 4K leaves, and nothing else changes. What is mapped
 * later over such a 2M has 4K leaves from the start. The flag takes effect at once,
 * on what is mapped, too: leaves that do not agree with the RMP are split. If there
 * is no memory for a split the leaf is unmapped, and mapped again with 4K leaves as
 * soon as there is: see VFIO_PGSIZE_GET_STATS. What has 4K leaves though it did not
 * break (the call was refused, or was one on another 2M) gets its leaf back within a
 * second or so. Of one page of memory 1024 mappings can follow the RMP in a
 * container, counted in all its domains: more of them are -EMLINK, of this call, of
 * VFIO_IOMMU_MAP_DMA, and where a group is attached.
 *
 * VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE (with ON_SMASH_SPLIT): a 2M that gets a 2M RMP
 * entry, or is shared as a whole, gets its leaf back, of 2M at most. So does,
 * within a second or so, one that was shared page by page.
 *
 * Where leaves are followed VFIO_PGSIZE_POLICY_APPLY makes none larger than 2M of
 * smaller ones.
 *
 * VFIO_PGSIZE_GET_POLICY: writes @pgsizes, and the flags ON_SMASH_SPLIT and
 * ON_WHOLE_MERGE: of the container, or with VFIO_PGSIZE_POLICY_RANGE of the address
 * @iova. @size, on return, is then the number of bytes from @iova on for which the
 * same policy holds, 2^64 - 4096 at most, and the flag VFIO_PGSIZE_POLICY_INHERIT
 * says that it is the container's. On entry @size and @pgsizes must be 0, and there is
 * no flag but RANGE.
 *
 * Return: 0, or
 * -EINVAL: bad @argsz, flag, alignment, or set of sizes;
 * -EOVERFLOW: @iova + @size - 1 overflows;
 * -ENOSPC: too many ranges with a policy of their own (see max_ranges);
 * -EMLINK: ON_SMASH_SPLIT, and a page of memory has too many mappings;
 * -ENOMEM: no memory. With APPLY the policy is unchanged then, and each leaf
 *	is one that the old or the new policy would give;
 * -EOPNOTSUPP: APPLY or ON_SMASH_SPLIT, and a domain's page table can not be
 *	edited in place; ON_SMASH_SPLIT, and this is no SNP host, SNP is off, or its
 *	kernel can not be followed (PREEMPT_RT, or functions that can not be probed);
 * -EINTR: APPLY, and a fatal signal came; as -ENOMEM;
 * -EIO: APPLY, and the page table is not as it was left: a bug. The kernel's log
 *	says where; as -ENOMEM;
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
	__aligned_u64 iova;
	__aligned_u64 size;
	__aligned_u64 pgsizes;
};

#define VFIO_PGSIZE_GET_POLICY	_IO(VFIO_TYPE, VFIO_BASE + 100)
#define VFIO_PGSIZE_SET_POLICY	_IO(VFIO_TYPE, VFIO_BASE + 101)

/**
 * struct vfio_pgsize_run - a run of like leaves that follow one another
 * @iova: where the first leaf starts, in bytes
 * @size: bytes that the run covers: a multiple of @pgsize
 * @pgsize: size of each leaf, in bytes: a power of two; 0 with RUN_PRIVATE
 * @flags: VFIO_PGSIZE_RUN_*: what the device may do
 * @reserved: 0
 *
 * Two leaves that differ in nothing but their addresses are in one run, be
 * they contiguous in memory or not. No physical address is given.
 *
 * VFIO_PGSIZE_RUN_RMP_4K, VFIO_PGSIZE_RUN_RMP_2M, VFIO_PGSIZE_RUN_ASSIGNED: with
 * VFIO_PGSIZE_QUERY_RMP only; of each leaf of the run: an RMP entry under it is of
 * 4K, one is of 2M (a leaf of more than 2M can have both), a frame under it is
 * assigned to a guest. A frame that is not assigned counts as one of a 4K entry. Neither
 * of the first two: the RMP has no entries for it, as for device registers, or SNP is off.
 *
 * VFIO_PGSIZE_RUN_PRIVATE: these are no leaves, but pages that are private (see
 * VFIO_PGSIZE_SET_STATE). What the device may do says the mapping.
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
 * @iova: in: where to start, in bytes, a multiple of 4096. Out: where to start
 *	the next call
 * @size: in: length of the range, in bytes, a multiple of 4096, not 0. Out:
 *	what is left of it; 0 when all was reported
 * @domain: which of the container's IOMMU domains, from 0
 * @nr: in: how many runs fit at @runs. Out: how many were written
 * @runs: address of an array of struct vfio_pgsize_run
 *
 * Read from the page table itself, in rising order; unmapped parts are left
 * out. A leaf that straddles the start or the end of the range is reported
 * whole. One call reports 1024 runs at most; call again with the @iova and
 * @size that came back until @size is 0. Each call is atomic against map,
 * unmap and policy changes, a sequence of calls is not.
 *
 * With VFIO_PGSIZE_QUERY_MISMATCH, an audit: only leaves that disagree with the
 * RMP, through which DMA fails: of 2M or more, over a 2M whose RMP entries are of 4K,
 * one of them assigned. Where leaves follow the RMP there is none.
 *
 * With VFIO_PGSIZE_QUERY_RMP each run also says what the RMP has under its leaves,
 * and leaves of which it has not the same are not joined. It was so when it was
 * looked at: a guest may change it at any moment. That takes one look at the RMP for
 * each leaf of 4K and each 2M of a larger one if the entry is of 2M; else two for the leaf
 * of 4K, and up to 1024 for that 2M, until a frame is assigned.
 *
 * With VFIO_PGSIZE_QUERY_STATE, private pages are reported, too, as runs with
 * VFIO_PGSIZE_RUN_PRIVATE, of which neighbours are joined.
 *
 * Return: 0, or
 * -EINVAL: bad @argsz, flag, alignment, or @nr is 0;
 * -EOVERFLOW: @iova + @size - 1 overflows;
 * -ENOENT: there is no such domain: @domain is their number or more;
 * -EOPNOTSUPP: the domain's page table is in a format that the module can not
 *	read (any but AMD's host format); MISMATCH or RMP, and nothing in the
 *	container follows the RMP;
 * -ENOMEM: no memory; -EINTR: a fatal signal came;
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
 * struct vfio_pgsize_stats - VFIO_PGSIZE_GET_STATS: what following the RMP did
 * @argsz: size of this structure, in bytes
 * @flags: must be 0
 * @splits: leaves that were split, in all domains
 * @merges: leaves that stand where smaller ones stood
 * @fallbacks: leaves that were unmapped, for there was no memory to split them
 * @repairs: ranges that were mapped again after that
 * @missed: calls that the kernel let go by unseen, of all containers, since one
 *	began to follow while none did. Within a second or so after one all followed
 *	leaves are looked at, and split where they disagree with the RMP
 * @mismatches: leaves that were found to disagree with the RMP, by an audit
 *	(VFIO_PGSIZE_QUERY_MISMATCH) or after a call was missed, each time that
 *	one was
 * @shared: bytes that are shared, of mappings with VFIO_PGSIZE_MAP_STATEFUL
 * @stateful: bytes that such mappings have in all
 *
 * All but @missed, @shared and @stateful are counted since VFIO_SET_IOMMU. Who wants
 * to be told of @fallbacks, @missed and @mismatches: VFIO_PGSIZE_SET_EVENT.
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
};

#define VFIO_PGSIZE_GET_STATS	_IO(VFIO_TYPE, VFIO_BASE + 103)

/**
 * struct vfio_pgsize_event - VFIO_PGSIZE_SET_EVENT: be told when something is wrong
 * @argsz: size of this structure, in bytes
 * @flags: must be 0
 * @fd: an eventfd, or -1 for none any more
 * @reserved: must be 0
 *
 * The eventfd is signalled soon after a leaf had to be unmapped for want of memory
 * (@fallbacks of VFIO_PGSIZE_GET_STATS), a leaf was found to disagree with the RMP
 * (@mismatches), or the kernel let a call go by unseen while leaves followed
 * (@missed); the counters say which. It is also signalled once if the host switches SNP
 * off while leaves follow: they go on as if there was no RMP. Several of these can be one
 * signal. The module has repaired what it can before it signals: it has split what was
 * missed, and mapped again what was unmapped, if there is memory.
 *
 * It replaces an eventfd that was set before, and is kept until the container's
 * last group leaves, whether the VMM closes the descriptor or not.
 *
 * Return: 0, or
 * -EINVAL: bad @argsz or flag, @reserved is not 0, or @fd is no eventfd;
 * -EBADF: @fd is no open file; -EFAULT: @arg is not readable.
 */
struct vfio_pgsize_event {
	__u32 argsz;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
};

#define VFIO_PGSIZE_SET_EVENT	_IO(VFIO_TYPE, VFIO_BASE + 104)

/*
 * Page state: memory of which devices may use some pages, *shared*, and not the
 * others, *private*. One VFIO_IOMMU_MAP_DMA with VFIO_PGSIZE_MAP_STATEFUL
 * describes all of it, VFIO_PGSIZE_SET_STATE says of which pages that is so, and
 * only these are pinned, locked (RLIMIT_MEMLOCK), and in the IOMMU. Whatever
 * happens inside, it is one mapping. VFIO_PGSIZE_IOMMU only.
 */

/**
 * VFIO_PGSIZE_MAP_STATEFUL - flag of VFIO_IOMMU_MAP_DMA: pages have a state
 *
 * All pages are private at first: nothing is pinned, and @vaddr need not be
 * backed by memory yet. The addresses must be usable as those of any mapping.
 *
 * VFIO_IOMMU_MAP_DMA has its own errors, and with this flag:
 * -EINVAL: the container is of type1v2;
 * -EOPNOTSUPP: a domain's page table can not be edited in place (any but AMD's host
 *	format).
 */
#define VFIO_PGSIZE_MAP_STATEFUL	(1 << 16)

/**
 * VFIO_PGSIZE_MAP_SHARED - with VFIO_PGSIZE_MAP_STATEFUL: all pages are shared at first
 *
 * -EINVAL without that flag; -EFAULT if some of the range is no memory but a device's
 * registers, which can have no state.
 */
#define VFIO_PGSIZE_MAP_SHARED		(1 << 17)

/**
 * struct vfio_pgsize_state - one change of VFIO_PGSIZE_SET_STATE
 * @iova: where the pages start, in bytes, a multiple of 4096
 * @size: their length in bytes, a multiple of 4096, not 0
 * @state: VFIO_PGSIZE_STATE_PRIVATE or VFIO_PGSIZE_STATE_SHARED
 * @reserved: must be 0
 *
 * All of it must lie in one mapping that is stateful. Pages that have the state
 * already keep it, and their leaves.
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
 * @nr: in: how many changes there are at @changes, not 0. Out: how many are done
 * @reserved: must be 0
 * @changes: address of an array of struct vfio_pgsize_state
 *
 * The changes are made one after the other. Shared: the pages are pinned, and
 * mapped in every IOMMU domain with the largest leaves that the policy, the
 * memory and, where leaves follow the RMP, the RMP allow; a 2M that is whole
 * now gets a leaf of 2M again. Private: leaves are cut, without a moment in which
 * the pages that stay shared are not translated; then the pages are unmapped, the
 * IOTLB flushed, and the pages unpinned. The host may give them away as soon as
 * the call has returned.
 *
 * Where the call fails, @nr says how many changes, from the first on, are done;
 * the one after these, which is the reason, is not done at all, and neither is
 * any behind it.
 *
 * The pages that are to be shared are those of the process that made the
 * mapping: it has to make the call, too.
 *
 * Return: 0, or
 * -EINVAL: bad @argsz, flag or reserved field, or @nr is 0 (@nr is as it was);
 *	a change with a bad alignment, size or state;
 * -EOVERFLOW: a change whose @iova + @size - 1 overflows;
 * -ENOENT: a change that is not within one stateful mapping;
 * -ENOTTY: the container is of type1v2, which knows no states;
 * -EPERM: pages are to be shared, and this is not the process that mapped them;
 * -EFAULT: the memory is not there, is a device's registers, or is not to be written
 *	and the device may write; or @arg or @changes is not accessible (if it is
 *	@arg, @nr is as it was);
 * -ENOMEM: no memory, or beyond RLIMIT_MEMLOCK;
 * -EIO: a page table is not as it was left: a bug. The kernel's log says where;
 * -EMLINK: as for VFIO_IOMMU_MAP_DMA: see VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT;
 * -EINTR: a fatal signal came.
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
