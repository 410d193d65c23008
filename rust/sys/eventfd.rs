// SPDX-License-Identifier: GPL-2.0

//! The eventfd that notifies the VMM.

#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

use super::bindings;

/// A reference to an eventfd.
///
/// # Invariants
///
/// The reference is counted, and ours.
pub(crate) struct Event(NonNull<bindings::eventfd_ctx>);

// SAFETY: It may be used from any thread.
unsafe impl Send for Event {}

impl Event {
    /// Takes a reference to the eventfd `fd` of the current process.
    ///
    /// Fails with `EBADF` if `fd` is not open, and with `EINVAL` if it is not an eventfd.
    pub(crate) fn of_fd(fd: c_int) -> Result<Self> {
        // SAFETY: It may be called in process context.
        let event = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;

        // INVARIANT: The reference is ours.
        Ok(Self(NonNull::new(event).ok_or(EBADF)?))
    }

    /// Adds one to the counter. No spinlock may be held: the waiters' wake-up functions run here.
    pub(crate) fn signal(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}
