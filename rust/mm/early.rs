// SPDX-License-Identifier: GPL-2.0

//! Pages that are pinned and charged before a lock is taken, for whoever has it then.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::{
    locked_vm::Locked,
    mmap_lock::{
        Plain,
        ReadLock, //
    },
    pin::{
        pin_present,
        Buffer,
        BATCH, //
    },
    pinned::phys_of,
    user_addr::UserAddr, //
};
use crate::{
    pgtable::Phys,
    sys::{
        bindings,
        num::{
            to_u64,
            to_usize, //
        },
        testing::{
            step,
            Step, //
        }, //
    }, //
};

/// Pages of the current process that are pinned and charged and are in no page table: they are handed
/// out in the order in which they were pinned. What is left is unpinned when this is dropped.
pub(crate) struct EarlyPins<'b> {
    pages: &'b mut [*mut bindings::page],
    /// Those that are pinned: as many of `pages`, from the first on.
    frames: &'b mut KVVec<Phys>,
    /// How many of them were handed out.
    kept: usize,
    /// Pages that are charged, in addition to those.
    charged: u64,
    locked: &'b Locked,
    write: bool,
}

impl<'b> EarlyPins<'b> {
    /// Pages, at one time.
    pub(crate) const MOST: usize = BATCH;

    /// None yet; for the device to write, if `write`.
    pub(crate) fn new(buffer: &'b mut Buffer, locked: &'b Locked, write: bool) -> Self {
        Self {
            pages: &mut buffer.pages,
            frames: &mut buffer.frames,
            kept: 0,
            charged: 0,
            locked,
            write,
        }
    }

    /// Returns whether all pages that are pinned were handed out.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept == self.frames.len()
    }

    /// Has `pages` charged, if so many are spare; as many as there are otherwise.
    pub(crate) fn charge(&mut self, pages: u64) {
        self.charged = self.charged.saturating_add(self.locked.charge_spare(pages));
    }

    /// Pins `pages` from `start` on, behind those before, as far as they are there and charged; nothing
    /// is faulted in. `plain` is what is known of the memory already. Says whether it did all.
    ///
    /// Sleeps, for mmap_lock, too.
    pub(crate) fn pin(&mut self, start: UserAddr, pages: u64, plain: &mut Plain) -> bool {
        let wanted = pages.min(self.charged);

        if wanted == 0 || !is_plain(start, wanted, self.write, plain) {
            return pages == 0;
        }
        step(Step::StatePins);
        let first = self.frames.len();
        let room = Self::MOST.saturating_sub(first).min(to_usize(wanted));
        let behind = self.pages.get_mut(first..).unwrap_or(&mut []);
        let behind = behind.get_mut(..room).unwrap_or(&mut []);
        let got = pin_present(behind, start, self.write);

        for page in behind.iter().take(got) {
            // There is room. A frame that no entry can hold is not to be had: nobody maps it.
            let phys = phys_of(*page).unwrap_or(Phys::from_low_bits(u64::MAX));
            drop(self.frames.push_within_capacity(phys));
        }
        self.charged = self.charged.saturating_sub(to_u64(got));
        to_u64(got) == pages
    }

    /// The next ones, if there are so many.
    pub(crate) fn next(&self, pages: u64) -> Option<&[Phys]> {
        self.frames.get(self.kept..)?.get(..to_usize(pages))
    }

    /// So many, the next ones, are in a page table now, and stay pinned and charged.
    pub(crate) fn keep(&mut self, pages: u64) {
        let kept = self.kept.saturating_add(to_usize(pages));

        self.kept = kept.min(self.frames.len());
    }

    /// Unpins what is left, which no device has seen, and has it charged no more.
    pub(crate) fn give_back(&mut self) {
        let left = self.pages.get_mut(self.kept..self.frames.len());

        if let Some(left @ [_, ..]) = left {
            self.charged = self.charged.saturating_add(to_u64(left.len()));
            // SAFETY: GUP pinned them, and they are in no page table.
            unsafe { bindings::unpin_user_pages(left.as_mut_ptr(), left.len()) };
        }
        if self.charged != 0 {
            self.locked.release(self.charged);
        }
        self.charged = 0;
        self.kept = 0;
        self.frames.clear();
    }
}

impl Drop for EarlyPins<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Whether GUP may be asked for these pages without a look at their VMAs.
fn is_plain(start: UserAddr, pages: u64, write: bool, plain: &mut Plain) -> bool {
    if plain.pages_from(start) < pages {
        let current = kernel::current!();
        let Some(lock) = current.mm().and_then(|mm| ReadLock::killable(mm).ok()) else {
            return false;
        };
        *plain = Plain::around(&lock, start, pages, write);
    }
    plain.pages_from(start) >= pages
}
