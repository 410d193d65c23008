// SPDX-License-Identifier: GPL-2.0

//! The lock of the reverse map, and the calls that are in transit.
//!
//! # Rules
//!
//! The lock, irq-safe, is the right to edit leaves of 2M and more in followed contiguous runs. The hook has
//! it while it edits and until the IOTLB is flushed. A contiguous run that is *pending* is its mapper's, who
//! holds the container's mutex: the hook only notes that it was *hit*, and the mapper looks at the RMP
//! again before it lets the hook have it.

#![allow(unsafe_code)]

use core::{
    cell::UnsafeCell,
    ptr::null_mut, //
};

use kernel::prelude::*;

use super::entry::Block;
use crate::sys::{
    bindings,
    num::to_usize, //
};

/// Blocks that are in transition are counted by a hash of them.
const BUCKETS: usize = 256;

fn bucket_of(block: Block) -> usize {
    to_usize(block.number()) % BUCKETS
}

/// What the lock protects besides the tree.
struct Shared {
    /// How many calls are between entry and exit, by bucket.
    transit: [u16; BUCKETS],
    /// Counts the beginnings and ends of calls that can break a block.
    generation: u64,
    /// The latest of these, by bucket.
    latest: [u64; BUCKETS],
    /// Calls of this generation, or of one before it, do not count.
    forgotten: u64,
    cursors: *mut RmapCursor,
}

struct SharedCell(UnsafeCell<Shared>);

// SAFETY: It is touched under the lock only.
unsafe impl Sync for SharedCell {}

static SHARED: SharedCell = SharedCell(UnsafeCell::new(Shared {
    transit: [0; BUCKETS],
    generation: 0,
    latest: [0; BUCKETS],
    forgotten: 0,
    cursors: null_mut(),
}));

/// The lock of the tree, held; interrupts are off.
///
/// # Invariants
///
/// This processor holds the lock, and `flags` is what taking it returned.
pub(crate) struct Guard {
    flags: c_ulong,
    _not_send: kernel::types::NotThreadSafe,
}

impl Guard {
    pub(crate) fn lock() -> Self {
        // INVARIANT: Just taken.
        Self {
            // SAFETY: Nobody who calls this holds it.
            flags: unsafe { bindings::pgsize_rmap_lock() },
            _not_send: kernel::types::NotThreadSafe,
        }
    }

    fn shared(&mut self) -> &mut Shared {
        // SAFETY: By the type invariant no other reference is used.
        unsafe { &mut *SHARED.0.get() }
    }

    /// Lets others have the lock for a moment.
    pub(super) fn drop_and_retake(&mut self) {
        // SAFETY: By the type invariant it is held; nobody else takes it here.
        unsafe {
            bindings::pgsize_rmap_unlock(self.flags);
            self.flags = bindings::pgsize_rmap_lock();
        }
    }

    /// The looks that are under way.
    pub(super) fn cursors(&mut self) -> &mut *mut RmapCursor {
        &mut self.shared().cursors
    }

    /// A call that may break `block` begins.
    /// Returns the generation, which is the call's. From here on who maps the block sees it.
    pub(super) fn begin(&mut self, block: Block) -> u64 {
        let generation = self.next_generation(block);

        if let Some(count) = self.shared().transit.get_mut(bucket_of(block)) {
            *count = count.saturating_add(1);
        }
        generation
    }

    /// One generation on.
    fn next_generation(&mut self, block: Block) -> u64 {
        let shared = self.shared();

        shared.generation = shared.generation.wrapping_add(1);
        if let Some(latest) = shared.latest.get_mut(bucket_of(block)) {
            *latest = shared.generation;
        }
        shared.generation
    }

    /// The call of generation `began` has returned. Who looked at the RMP meanwhile may not have seen
    /// what it did.
    pub(crate) fn end(&mut self, block: Block, began: u64) {
        self.next_generation(block);
        let shared = self.shared();
        if began <= shared.forgotten {
            return;
        }
        if let Some(count) = shared.transit.get_mut(bucket_of(block)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether such a call is under way: of this block, or of one that shares its bucket.
    pub(super) fn is_in_transit(&mut self, block: Block) -> bool {
        self.shared().transit.get(bucket_of(block)) != Some(&0)
    }

    /// Changes whenever a call begins or ends that may break the block, or one that shares its bucket.
    /// If it does not while the RMP is looked at, and no call is under way then, what was seen holds.
    pub(super) fn generation(&mut self, block: Block) -> u64 {
        let latest = self.shared().latest.get(bucket_of(block));

        latest.copied().unwrap_or(0)
    }

    /// No call is known to be under way: nothing was hooked until now. Calls that were hooked before
    /// that may yet end, and do not count.
    pub(super) fn reset(&mut self) {
        let shared = self.shared();

        shared.transit = [0; BUCKETS];
        shared.forgotten = shared.generation;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::pgsize_rmap_unlock(self.flags) };
    }
}

/// A look that is under way.
pub(crate) struct RmapCursor {
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// Each block gets small leaves.
    pub(super) smash: bool,
    pub(crate) next: *mut bindings::pgsize_place,
    pub(crate) other: *mut RmapCursor,
}
