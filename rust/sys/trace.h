/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events of the system vfio_pgsize: leaves that follow the RMP, and policies. The
 * hook emits some with preemption off and a spinlock held.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vfio_pgsize

#if !defined(VFIO_PGSIZE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VFIO_PGSIZE_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(policy,
	TP_PROTO(u64 container, u64 iova, u64 size, u64 pgsizes, u32 flags),
	TP_ARGS(container, iova, size, pgsizes, flags),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u64, iova)
		__field(u64, size)
		__field(u64, pgsizes)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->container = container;
		__entry->iova = iova;
		__entry->size = size;
		__entry->pgsizes = pgsizes;
		__entry->flags = flags;
	),
	TP_printk("container=%llu iova=%#llx size=%#llx pgsizes=%#llx flags=%#x",
		  __entry->container, __entry->iova, __entry->size, __entry->pgsizes,
		  __entry->flags)
);

DECLARE_EVENT_CLASS(leaf,
	TP_PROTO(u64 container, u64 iova, u64 size, u64 pfn),
	TP_ARGS(container, iova, size, pfn),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u64, iova)
		__field(u64, size)
		__field(u64, pfn)
	),
	TP_fast_assign(
		__entry->container = container;
		__entry->iova = iova;
		__entry->size = size;
		__entry->pfn = pfn;
	),
	TP_printk("container=%llu iova=%#llx size=%#llx pfn=%#llx",
		  __entry->container, __entry->iova, __entry->size, __entry->pfn)
);

/* A 2M got 4K leaves; size: of the leaf that was split. */
DEFINE_EVENT(leaf, split,
	TP_PROTO(u64 container, u64 iova, u64 size, u64 pfn),
	TP_ARGS(container, iova, size, pfn)
);

/* A leaf of this size replaced smaller ones. */
DEFINE_EVENT(leaf, merge,
	TP_PROTO(u64 container, u64 iova, u64 size, u64 pfn),
	TP_ARGS(container, iova, size, pfn)
);

/* There was no memory to split the leaf: it was unmapped. */
DEFINE_EVENT(leaf, fallback,
	TP_PROTO(u64 container, u64 iova, u64 size, u64 pfn),
	TP_ARGS(container, iova, size, pfn)
);

/* The leaf disagreed with the RMP. */
DEFINE_EVENT(leaf, mismatch,
	TP_PROTO(u64 container, u64 iova, u64 size, u64 pfn),
	TP_ARGS(container, iova, size, pfn)
);

/* A range that was unmapped is mapped again, with 4K leaves. */
TRACE_EVENT(repair,
	TP_PROTO(u64 container, u64 iova, u64 size),
	TP_ARGS(container, iova, size),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u64, iova)
		__field(u64, size)
	),
	TP_fast_assign(
		__entry->container = container;
		__entry->iova = iova;
		__entry->size = size;
	),
	TP_printk("container=%llu iova=%#llx size=%#llx",
		  __entry->container, __entry->iova, __entry->size)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH sys
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

#include <trace/define_trace.h>
