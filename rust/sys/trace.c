// SPDX-License-Identifier: GPL-2.0
#include "tracing.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

void pgsize_trace_policy(u64 container, u64 iova, u64 size, u64 pgsizes, u32 flags)
{
	trace_policy(container, iova, size, pgsizes, flags);
}

void pgsize_trace_split(u64 container, u64 iova, u64 size, u64 pfn)
{
	trace_split(container, iova, size, pfn);
}

void pgsize_trace_merge(u64 container, u64 iova, u64 size, u64 pfn)
{
	trace_merge(container, iova, size, pfn);
}

void pgsize_trace_fallback(u64 container, u64 iova, u64 size, u64 pfn)
{
	trace_fallback(container, iova, size, pfn);
}

void pgsize_trace_mismatch(u64 container, u64 iova, u64 size, u64 pfn)
{
	trace_mismatch(container, iova, size, pfn);
}

void pgsize_trace_repair(u64 container, u64 iova, u64 size)
{
	trace_repair(container, iova, size);
}
