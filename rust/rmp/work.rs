// SPDX-License-Identifier: GPL-2.0

//! Queues the worker: see `work.c`.

#![allow(unsafe_code)]

use crate::sys::bindings;

/// Sets the function that the worker calls, in process context, possibly in several threads. Call
/// once, when the module is loaded.
pub(crate) fn init_work(work: extern "C" fn()) {
    // SAFETY: The worker is not queued yet.
    unsafe { bindings::pgsize_work_init(Some(work)) };
}

/// Queues the worker. Atomic.
pub(super) fn work_now() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_now() };
}

/// Queues the worker, to run after some milliseconds. Atomic.
pub(super) fn work_soon() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_soon() };
}

/// Queues the worker, to run after a longer delay (`LATER` in `work.c`). Atomic.
pub(crate) fn work_later() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_later() };
}
