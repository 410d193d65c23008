// SPDX-License-Identifier: GPL-2.0

//! Trace events: see `trace.h`. All functions are atomic.

#![allow(unsafe_code)]

use super::bindings;
use crate::pgtable::{
    Iova,
    Leaf,
    PageSize,
    Phys,
    PAGE_BYTES, //
};

/// A leaf, or a 2M block of one, as an argument of events.
#[derive(Clone, Copy)]
pub(crate) struct Where {
    /// First IOVA.
    pub(crate) iova: Iova,
    /// Size of the leaf.
    pub(crate) size: PageSize,
    /// Physical address of `iova`.
    pub(crate) phys: Phys,
}

impl From<&Leaf> for Where {
    fn from(leaf: &Leaf) -> Self {
        Self {
            iova: leaf.iova,
            size: leaf.size(),
            phys: leaf.phys(),
        }
    }
}

/// Defines functions that emit an event with the number of a container and a [`Where`].
macro_rules! leaf_events {
    ($($(#[$doc:meta])* $name:ident = $function:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(container: u64, at: Where) {
            // SAFETY: It may be called from anywhere.
            unsafe {
                bindings::$function(
                    container,
                    at.iova.get(),
                    at.size.bytes(),
                    at.phys.get() / PAGE_BYTES,
                )
            };
        }
    )*};
}

leaf_events! {
    /// A 2M block was split into leaves of 4K.
    split = pgsize_trace_split;
    /// Leaves were merged into this one.
    merge = pgsize_trace_merge;
    /// The leaf was unmapped: no memory to split it.
    fallback = pgsize_trace_fallback;
    /// The leaf disagrees with the RMP.
    mismatch = pgsize_trace_mismatch;
}

/// `bytes` from `iova` on, which the hook had unmapped, are mapped again.
pub(crate) fn repair(container: u64, iova: Iova, bytes: u64) {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_trace_repair(container, iova.get(), bytes) };
}

/// A policy was set. `policy` is the request.
pub(crate) fn policy(container: u64, policy: &bindings::vfio_pgsize_policy) {
    // SAFETY: It may be called from anywhere.
    unsafe {
        bindings::pgsize_trace_policy(
            container,
            policy.iova,
            policy.size,
            policy.pgsizes,
            policy.flags,
        )
    };
}
