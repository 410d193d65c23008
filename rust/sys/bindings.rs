// SPDX-License-Identifier: GPL-2.0

//! The kernel's C API, from bindgen: `kernel::bindings` plus what that lacks
//! (`bindgen_parameters`).

#![allow(
    clippy::all,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use pin_init::MaybeZeroable;

pub(crate) use kernel::bindings::*;

pub(crate) use kernel::ffi;

include!(env!("VFIO_PGSIZE_BINDINGS"));
