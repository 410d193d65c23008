// SPDX-License-Identifier: GPL-2.0

//! The reverse map, from frames to leaves: which contiguous runs of which domains follow the RMP.
//!
//! One interval tree over the frames of all followed contiguous runs, of all containers. A contiguous run, not a
//! leaf, has a node: what leaves it has is read from its page table. So a contiguous terabyte is one
//! node, and splits and merges change nothing here. The same node is in the tree of its domain, by
//! IOVA: see [`watches`](super::watches) and `places.c`.

#![allow(unsafe_code)]

use super::{
    lock::Guard,
    watch::Watch, //
};
use crate::sys::bindings;

impl Guard {
    /// From now on the hook knows this contiguous run.
    pub(crate) fn insert(&mut self, watch: &Watch) {
        // SAFETY: It is in no tree, and stays where it is until it is removed.
        unsafe { bindings::pgsize_rmap_insert(watch.place()) };
    }

    /// The hook does not know it any more.
    pub(crate) fn remove(&mut self, watch: &Watch) {
        self.advance_cursors(watch);
        // SAFETY: It is in the tree, by the invariants of `Watch`.
        unsafe { bindings::pgsize_rmap_remove(watch.place()) };
    }
}
