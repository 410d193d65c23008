// SPDX-License-Identifier: GPL-2.0

//! Trace events: see `trace.h`. All may be called from anywhere, with any lock held.

#![allow(unsafe_code)]

use super::bindings;
use crate::pgtable::{
    Iova,
    Leaf,
    PageSize,
    Phys,
    PAGE_BYTES, //
};

/// A leaf, or a 2M of one, as events have it.
#[derive(Clone, Copy)]
pub(crate) struct Where {
    pub(crate) iova: Iova,
    /// The leaf's size.
    pub(crate) size: PageSize,
    /// Where `iova` is.
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

/// Functions of C that take a container's number and a [`Where`].
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
    /// A 2M got leaves of 4K.
    split = pgsize_trace_split;
    /// A leaf stands where smaller ones stood.
    merge = pgsize_trace_merge;
    /// A leaf was unmapped, for there was no memory to split it.
    fallback = pgsize_trace_fallback;
    /// A leaf was found to disagree with the RMP.
    mismatch = pgsize_trace_mismatch;
}

/// `bytes` from `iova` on that had been unmapped are mapped again.
pub(crate) fn repair(container: u64, iova: Iova, bytes: u64) {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_trace_repair(container, iova.get(), bytes) };
}

/// A policy was set, as the request has it.
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
