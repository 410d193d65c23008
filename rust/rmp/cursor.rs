// SPDX-License-Identifier: GPL-2.0

//! Iterates over the watches of a range of frames. The rmap's lock is dropped in between: there may
//! be many watches, and an edit of a page table takes long.
//!
//! The cursor is in a list. Removal of a watch advances the cursors that point to it. A cursor may
//! miss a watch that is inserted. That is safe, because the call is in transit before the iteration
//! starts: a mapper that inserts a watch sees the call, or the watch is hit. Whoever replaces a
//! watch does the pending work of the cursors itself (`smash.rs: take_over`).

#![allow(unsafe_code)]

use core::cell::UnsafeCell;

use super::{
    entry::Block,
    lock::{
        Guard,
        RmapCursor, //
    },
    watch::Watch, //
};
use crate::{
    pgtable::IovaRange,
    sys::bindings, //
};

/// Maximum number of watches per hold of the lock.
const WATCHES_PER_LOCK: u32 = 64;

/// What a visit of a watch did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Little: continue.
    Next,
    /// It may have edited and flushed a page table: continue after dropping the lock.
    Edited,
    /// End the iteration.
    Stop,
}

impl Guard {
    /// Calls `each` with every watch that overlaps the blocks from `first` to `last`, by number.
    /// `smash`: see [`RmapCursor`]. Drops the lock between two calls; `each` neither drops it nor
    /// removes watches.
    pub(super) fn each_in(
        &mut self,
        (first, last): (u32, u32),
        smash: bool,
        mut each: impl FnMut(&mut Self, &Watch) -> Visit,
    ) {
        let cursor = UnsafeCell::new(RmapCursor {
            first,
            last,
            smash,
            // SAFETY: The lock is held.
            next: unsafe { bindings::pgsize_rmap_first(first, last) },
            other: *self.cursors(),
        });
        let cursor = cursor.get();
        let mut seen = 0u32;

        *self.cursors() = cursor;
        loop {
            // SAFETY: It is on our stack. While it is in the list it is accessed under the lock
            // only.
            let place = unsafe { (*cursor).next };
            if place.is_null() {
                break;
            }
            // SAFETY: As above. The node is in the tree: its removal would have advanced the
            // cursor.
            let watch = unsafe {
                (*cursor).next = bindings::pgsize_rmap_next(place, first, last);
                Watch::of(place)
            };
            let done = each(self, watch);
            seen = seen.wrapping_add(1);
            if done == Visit::Stop {
                break;
            }
            // SAFETY: As above.
            let more = unsafe { !(*cursor).next.is_null() };
            if more && (done == Visit::Edited || seen % WATCHES_PER_LOCK == 0) {
                self.drop_and_retake();
            }
        }
        self.unlink(cursor);
    }

    /// As [`Self::each_in`], with the watches that contain all of `block` and the IOVA range of the
    /// block.
    pub(super) fn each_over(
        &mut self,
        block: Block,
        smash: bool,
        mut each: impl FnMut(&mut Self, &Watch, IovaRange) -> Visit,
    ) {
        let Ok(number) = u32::try_from(block.number()) else {
            return;
        };

        self.each_in((number, number), smash, |guard, watch| {
            match watch.iovas_of(block) {
                Some(range) => each(guard, watch, range),
                None => Visit::Next,
            }
        });
    }

    /// Removes `cursor` from the list.
    fn unlink(&mut self, cursor: *mut RmapCursor) {
        let mut link: *mut *mut RmapCursor = self.cursors();

        // SAFETY: The lock is held. Each cursor in the list is on the stack of a thread that waits
        // for the lock, or is ours. Ours is in the list.
        unsafe {
            while *link != cursor {
                link = &raw mut (**link).other;
            }
            *link = (*cursor).other;
        }
    }

    /// Advances the cursors that point to `watch`, which is about to be removed.
    pub(super) fn advance_cursors(&mut self, watch: &Watch) {
        let mut cursor = *self.cursors();

        while !cursor.is_null() {
            // SAFETY: As above; the watch is still in the tree.
            unsafe {
                if (*cursor).next == watch.place() {
                    let (first, last) = ((*cursor).first, (*cursor).last);
                    (*cursor).next = bindings::pgsize_rmap_next(watch.place(), first, last);
                }
                cursor = (*cursor).other;
            }
        }
    }

    /// The `nth` cursor that covers `watch`: the block that it splits, or `Some(None)` if it does
    /// not split. `None` if there are no more.
    pub(super) fn nth_cursor_over(&mut self, watch: &Watch, nth: usize) -> Option<Option<Block>> {
        let (from, to) = watch.numbers();
        let mut cursor = *self.cursors();
        let mut left = nth;

        while !cursor.is_null() {
            // SAFETY: As above.
            let (first, last, smash, other) = unsafe {
                let look = &*cursor;
                (look.first, look.last, look.smash, look.other)
            };
            if first <= to && last >= from {
                if left == 0 {
                    return Some(smash.then_some(Block::numbered(first.into())));
                }
                left = left.wrapping_sub(1);
            }
            cursor = other;
        }
        None
    }
}
