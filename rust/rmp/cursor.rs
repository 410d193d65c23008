// SPDX-License-Identifier: GPL-2.0

//! A look along the contiguous runs that have certain frames, which lets the lock of the tree go between two
//! of them: there may be many, and each edit takes its time.
//!
//! Where it is to go on is known to all: who removes that contiguous run sends it on to the next one. What is
//! inserted meanwhile may be missed. So a call is counted as under way before the look begins: who maps
//! sees that, or the hit; and who puts a contiguous run in another one's place, which the hook would have found,
//! does the hook's work for the looks that are under way (`smash.rs: take_over`).

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

/// Contiguous runs that are looked at, at most, before the lock is let go.
const WATCHES_PER_LOCK: u32 = 64;

/// What was done with a contiguous run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// It was looked at.
    Next,
    /// A page table was edited, perhaps, and flushed.
    Edited,
    /// That is enough: no other one is to be looked at.
    Stop,
}

impl Guard {
    /// Calls `each` with every contiguous run that has blocks from `first` to `last`, which are numbers of
    /// blocks. It may let the lock go between two; `each` may not, and removes nothing.
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
            // SAFETY: It is on our stack. While it can be found it is touched with the lock held.
            let place = unsafe { (*cursor).next };
            if place.is_null() {
                break;
            }
            // SAFETY: It is in the tree: whoever removes it sends the cursor on. As above.
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

    /// The same for the contiguous runs that hold all of `block`, with where they have it.
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

    /// The look is over.
    fn unlink(&mut self, cursor: *mut RmapCursor) {
        let mut link: *mut *mut RmapCursor = self.cursors();

        // SAFETY: The lock is held, and all that is linked is on the stack of somebody who waits for it,
        // or is ours. It is there.
        unsafe {
            while *link != cursor {
                link = &raw mut (**link).other;
            }
            *link = (*cursor).other;
        }
    }

    /// No look is to go on at `watch`, which is to be removed.
    pub(super) fn advance_cursors(&mut self, watch: &Watch) {
        let mut cursor = *self.cursors();

        while !cursor.is_null() {
            // SAFETY: As above; the contiguous run is in the tree still.
            unsafe {
                if (*cursor).next == watch.place() {
                    let (first, last) = ((*cursor).first, (*cursor).last);
                    (*cursor).next = bindings::pgsize_rmap_next(watch.place(), first, last);
                }
                cursor = (*cursor).other;
            }
        }
    }

    /// What the `nth` of the looks that are under way and are of concern to `watch` is for: a block that
    /// gets small leaves, or nothing of that kind.
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
