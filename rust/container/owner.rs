// SPDX-License-Identifier: GPL-2.0

//! The process that a container belongs to: the one that called `VFIO_SET_IOMMU`. For debugfs and the
//! log.

#![allow(unsafe_code)]

use kernel::{
    fmt,
    prelude::*,
    str::BStr, //
};

use crate::sys::bindings;

/// A process, whatever becomes of it. Another one with the same PID, later, is another process.
///
/// # Invariants
///
/// It is initialised, and not written to.
pub(crate) struct Owner(bindings::pgsize_owner);

// SAFETY: It is not written to, and a `struct pid` is for all threads.
unsafe impl Send for Owner {}

// SAFETY: As above.
unsafe impl Sync for Owner {}

impl Owner {
    /// The current process.
    pub(super) fn current() -> Self {
        let mut owner = bindings::pgsize_owner::default();

        // SAFETY: The pointer is valid.
        unsafe { bindings::pgsize_owner_init(&mut owner) };
        // INVARIANT: It was initialised.
        Self(owner)
    }

    /// Its PID in the initial namespace.
    pub(crate) fn pid(&self) -> i32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::pgsize_owner_pid(&self.0) }
    }

    /// Its name, and whether the process still exists.
    pub(crate) fn command(&self) -> (Command, bool) {
        let mut command = self.0.command;
        // SAFETY: By the type invariant. `command` has the size of a name.
        let exists = unsafe { bindings::pgsize_owner_command(&self.0, command.as_mut_ptr()) };

        (Command(command), exists)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. It is not used again.
        unsafe { bindings::pgsize_owner_put(&mut self.0) };
    }
}

/// The name of a process, which it can choose. Displayed on one line.
pub(crate) struct Command([c_char; bindings::TASK_COMM_LEN as usize]);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0);
        let name = self.0.get(..end.unwrap_or(self.0.len()));

        fmt::Display::fmt(BStr::from_bytes(name.unwrap_or_default()), f)
    }
}
