/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What bindgen reads for src/bindings.rs; tools/vm/crate.py runs it. The constants are
 * those that the header defines through function-like macros, which bindgen does not follow.
 */
#include <linux/vfio_pgsize.h>

const __u32 RUST_CONST_HELPER_VFIO_PGSIZE_GET_POLICY = VFIO_PGSIZE_GET_POLICY;
const __u32 RUST_CONST_HELPER_VFIO_PGSIZE_SET_POLICY = VFIO_PGSIZE_SET_POLICY;
const __u32 RUST_CONST_HELPER_VFIO_PGSIZE_QUERY = VFIO_PGSIZE_QUERY;
const __u32 RUST_CONST_HELPER_VFIO_PGSIZE_GET_STATS = VFIO_PGSIZE_GET_STATS;
const __u32 RUST_CONST_HELPER_VFIO_PGSIZE_SET_EVENT = VFIO_PGSIZE_SET_EVENT;
const __u32 RUST_CONST_HELPER_VFIO_PGSIZE_SET_STATE = VFIO_PGSIZE_SET_STATE;
