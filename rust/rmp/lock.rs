// SPDX-License-Identifier: GPL-2.0

//! The lock of the rmap, and the calls in transit.
//!
//! # Rules
//!
//! The lock, a spinlock with interrupts off, is the right to edit leaves of 2M and more in watches.
//! The hook holds it for an edit and its IOTLB flush. A *pending* watch belongs to its mapper, who
//! holds the mutex of the container: the hook only sets it to *hit*, and the mapper reads the RMP
//! again before it makes the watch live.

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

/// Calls in transit are counted by a hash of their block.
const BUCKETS: usize = 256;

fn bucket_of(block: Block) -> usize {
    to_usize(block.number()) % BUCKETS
}

/// What the lock protects besides the tree.
struct Shared {
    /// Number of calls between entry and exit, by bucket.
    transit: [u16; BUCKETS],
    /// Number of entries and exits of calls that can break a block.
    generation: u64,
    /// `generation` of the last of these, by bucket.
    latest: [u64; BUCKETS],
    /// Exits of calls that entered up to this generation are ignored.
    forgotten: u64,
    /// The list of cursors: see `cursor.rs`.
    cursors: *mut RmapCursor,
}

struct SharedCell(UnsafeCell<Shared>);

// SAFETY: Accessed under the lock only.
unsafe impl Sync for SharedCell {}

static SHARED: SharedCell = SharedCell(UnsafeCell::new(Shared {
    transit: [0; BUCKETS],
    generation: 0,
    latest: [0; BUCKETS],
    forgotten: 0,
    cursors: null_mut(),
}));

/// The rmap's lock, held, with interrupts off.
///
/// # Invariants
///
/// This CPU holds the lock. `flags` is what locking returned.
pub(crate) struct Guard {
    flags: c_ulong,
    _not_send: kernel::types::NotThreadSafe,
}

impl Guard {
    /// Takes the lock. The caller may not hold it.
    pub(crate) fn lock() -> Self {
        // INVARIANT: The lock is held.
        Self {
            // SAFETY: No caller holds it.
            flags: unsafe { bindings::pgsize_rmap_lock() },
            _not_send: kernel::types::NotThreadSafe,
        }
    }

    fn shared(&mut self) -> &mut Shared {
        // SAFETY: By the type invariant no other reference is used.
        unsafe { &mut *SHARED.0.get() }
    }

    /// Drops the lock and takes it again, so that others can take it.
    pub(super) fn drop_and_retake(&mut self) {
        // SAFETY: By the type invariant it is held.
        unsafe {
            bindings::pgsize_rmap_unlock(self.flags);
            self.flags = bindings::pgsize_rmap_lock();
        }
    }

    /// The list of cursors.
    pub(super) fn cursors(&mut self) -> &mut *mut RmapCursor {
        &mut self.shared().cursors
    }

    /// A call that may break `block` enters. Returns its generation. From now on mappers see the
    /// call.
    pub(super) fn begin(&mut self, block: Block) -> u64 {
        let generation = self.next_generation(block);

        if let Some(count) = self.shared().transit.get_mut(bucket_of(block)) {
            *count = count.saturating_add(1);
        }
        generation
    }

    /// Increments the generation.
    fn next_generation(&mut self, block: Block) -> u64 {
        let shared = self.shared();

        shared.generation = shared.generation.wrapping_add(1);
        if let Some(latest) = shared.latest.get_mut(bucket_of(block)) {
            *latest = shared.generation;
        }
        shared.generation
    }

    /// The call of generation `began` exits. The RMP may have changed for readers that saw an older
    /// generation.
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

    /// Whether a call is in transit for this block, or for another one in its bucket.
    pub(super) fn is_in_transit(&mut self, block: Block) -> bool {
        self.shared().transit.get(bucket_of(block)) != Some(&0)
    }

    /// The generation of the last entry or exit of a call for this block, or for another one in its
    /// bucket. If it is the same before and after a read of the RMP, and no call is in transit, the
    /// read is up to date.
    pub(super) fn generation(&mut self, block: Block) -> u64 {
        let latest = self.shared().latest.get(bucket_of(block));

        latest.copied().unwrap_or(0)
    }

    /// Forgets all calls in transit: the hook is registered now. Exits of calls that entered before
    /// may still come, and are ignored.
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

/// The position of an iteration. On the stack of the thread that iterates.
pub(crate) struct RmapCursor {
    /// First block, by number.
    pub(crate) first: u32,
    /// Last block, by number.
    pub(crate) last: u32,
    /// The iteration splits each block.
    pub(super) smash: bool,
    /// The next node to visit, or NULL.
    pub(crate) next: *mut bindings::pgsize_place,
    /// The next cursor in the list, or NULL.
    pub(crate) other: *mut RmapCursor,
}
