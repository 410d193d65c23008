/* SPDX-License-Identifier: GPL-2.0 */
/* The events of trace.h, for Rust. Any context. */
#ifndef VFIO_PGSIZE_TRACING_H
#define VFIO_PGSIZE_TRACING_H

#include <linux/types.h>

void pgsize_trace_policy(u64 container, u64 iova, u64 size, u64 pgsizes, u32 flags);
void pgsize_trace_split(u64 container, u64 iova, u64 size, u64 pfn);
void pgsize_trace_merge(u64 container, u64 iova, u64 size, u64 pfn);
void pgsize_trace_fallback(u64 container, u64 iova, u64 size, u64 pfn);
void pgsize_trace_mismatch(u64 container, u64 iova, u64 size, u64 pfn);
void pgsize_trace_repair(u64 container, u64 iova, u64 size);

#endif
