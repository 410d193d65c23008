// SPDX-License-Identifier: GPL-2.0

//! An eventfd of the VMM, by which it is told.

#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

use super::bindings;

/// An eventfd.
///
/// # Invariants
///
/// We have a reference to it.
pub(crate) struct Event(NonNull<bindings::eventfd_ctx>);

// SAFETY: It may be used from any thread.
unsafe impl Send for Event {}

impl Event {
    /// That of a file descriptor of the current process. Fails with `EBADF` if it is none, and with
    /// `EINVAL` if it is of another file.
    pub(crate) fn of_fd(fd: c_int) -> Result<Self> {
        // SAFETY: It may be called in process context.
        let event = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;

        // INVARIANT: The reference is ours.
        Ok(Self(NonNull::new(event).ok_or(EBADF)?))
    }

    /// Adds one to it. Not with a spinlock held: who waits for it decides what is run.
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
