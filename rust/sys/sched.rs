// SPDX-License-Identifier: GPL-2.0

//! Scheduling points in long loops. Process context only.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::bindings;

/// As [`cond_resched`]. Fails with `EINTR` if a fatal signal is pending.
pub(crate) fn cond_resched_killable() -> Result {
    cond_resched();
    // SAFETY: It has no requirements.
    if unsafe { bindings::pgsize_fatal_signal_pending() } {
        return Err(EINTR);
    }
    Ok(())
}

/// Reschedules if necessary. May be called with mutexes held, but not with spinlocks.
pub(crate) fn cond_resched() {
    // SAFETY: All callers run in process context and hold no spinlock.
    unsafe { bindings::pgsize_cond_resched() };
}
