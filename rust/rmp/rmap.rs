// SPDX-License-Identifier: GPL-2.0

//! The reverse map: from frames to the watches of all domains.
//!
//! One interval tree over the frames of all watches, of all containers. A node is a watch, not a
//! leaf; leaves are read from the page table. So a contiguous terabyte is one node, and splits and
//! merges do not change the tree. The same node is in a tree of its domain, by IOVA: see
//! [`watches`](super::watches) and `places.c`.

#![allow(unsafe_code)]

use super::{
    lock::Guard,
    watch::Watch, //
};
use crate::sys::bindings;

impl Guard {
    /// Adds `watch`: the hook sees it from now on.
    pub(crate) fn insert(&mut self, watch: &Watch) {
        // SAFETY: It is in no tree, and does not move until it is removed.
        unsafe { bindings::pgsize_rmap_insert(watch.place()) };
    }

    /// Removes `watch`: the hook does not see it any more.
    pub(crate) fn remove(&mut self, watch: &Watch) {
        self.advance_cursors(watch);
        // SAFETY: It is in the tree, by the invariants of `Watch`.
        unsafe { bindings::pgsize_rmap_remove(watch.place()) };
    }
}
