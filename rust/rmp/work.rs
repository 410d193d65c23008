// SPDX-License-Identifier: GPL-2.0

//! Work that is left to process context: see `work.c`.

#![allow(unsafe_code)]

use crate::sys::bindings;

/// Says what the worker runs: in process context, in several threads at once. Once, when the module
/// is loaded.
pub(crate) fn init_work(work: extern "C" fn()) {
    // SAFETY: Nothing is queued yet.
    unsafe { bindings::pgsize_work_init(Some(work)) };
}

/// Has the worker run. Atomic.
pub(super) fn work_now() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_now() };
}

/// Has the worker run within some milliseconds. Atomic.
pub(super) fn work_soon() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_soon() };
}

/// Has the worker run when things have calmed down. Atomic.
pub(crate) fn work_later() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_later() };
}
