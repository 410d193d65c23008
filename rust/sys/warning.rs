// SPDX-License-Identifier: GPL-2.0

//! Rate limits of warnings that a VMM can cause.

#![allow(unsafe_code)]

use super::bindings;

/// A kind of warning. Each has its own limit, for all containers.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Warning {
    /// The hook unmapped a leaf for lack of memory.
    Fallback,
    /// The kernel did not report a change of the RMP.
    Missed,
    /// A leaf disagreed with the RMP.
    Mismatch,
    /// A container cannot have its default policy.
    Default,
}

impl Warning {
    /// Whether a warning may be logged now. If so, it counts. Atomic.
    pub(crate) fn is_allowed(self) -> bool {
        // SAFETY: It may be called from anywhere.
        unsafe { bindings::pgsize_may_warn(self as u32) }
    }
}
