// SPDX-License-Identifier: GPL-2.0

//! Points at which long work lets others run.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::bindings;

/// Lets others run, if they want to; fails with `EINTR` if a fatal signal came.
pub(crate) fn cond_resched_killable() -> Result {
    cond_resched();
    // SAFETY: It has no requirements.
    if unsafe { bindings::pgsize_fatal_signal_pending() } {
        return Err(EINTR);
    }
    Ok(())
}

/// Lets others run, if they want to.
pub(crate) fn cond_resched() {
    // SAFETY: Everything here runs in process context, with mutexes held at most.
    unsafe { bindings::pgsize_cond_resched() };
}
