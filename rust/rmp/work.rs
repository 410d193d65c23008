// SPDX-License-Identifier: GPL-2.0

//! Work that is left to process context: see `work.c`.

#![allow(unsafe_code)]

use crate::sys::bindings;

/// Has the worker run. Atomic.
pub(crate) fn work_now() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_now() };
}

/// Has the worker run within some milliseconds. Atomic.
pub(crate) fn work_soon() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_soon() };
}

/// Has the worker run when things have calmed down. Atomic.
pub(crate) fn work_later() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_later() };
}
