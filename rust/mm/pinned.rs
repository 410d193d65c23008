// SPDX-License-Identifier: GPL-2.0

//! Frames that are pinned, and their end.

#![allow(unsafe_code)]

use kernel::prelude::*;

use crate::{
    iommu::Flushed,
    pgtable::{
        Iova,
        IovaRange,
        Phys,
        PAGE_BYTES, //
    },
    sys::{
        bindings,
        num::{
            to_u64,
            to_usize, //
        }, //
    }, //
};

/// What a run consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Memory: pinned and charged.
    Memory,
    /// Frames that no `struct page` counts, such as a device's registers: neither.
    Frames,
}

/// Frames that follow one another, pinned if they are memory. Unpinned when dropped.
#[must_use]
pub(crate) struct PinnedRun {
    phys: Phys,
    pages: u64,
    kind: Kind,
    /// Devices may have written to it.
    written: bool,
}

impl PinnedRun {
    /// `pages` frames from `phys` on, of which the run has a pin each if they are memory.
    pub(crate) fn new(phys: Phys, pages: u64, kind: Kind) -> Self {
        Self {
            phys,
            pages,
            kind,
            written: false,
        }
    }

    pub(crate) fn phys(&self) -> Phys {
        self.phys
    }

    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// The IOVAs that it takes from `start` on.
    pub(crate) fn range_from(&self, start: Iova) -> Option<IovaRange> {
        IovaRange::with_len(start, self.pages.checked_mul(PAGE_BYTES)?)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// It was in a page table for a moment: devices may have written to it, if they `could`.
    pub(crate) fn was_mapped(&mut self, could: bool) {
        self.written |= could;
    }

    /// Leaves the pages pinned: the page table knows of them now. [`unpin`] is for later.
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }

    /// Goes on with `next`, if that is what follows; else it is given back.
    pub(super) fn extend(&mut self, next: Self) -> Option<Self> {
        let bytes = self.pages.wrapping_mul(PAGE_BYTES);

        if self.kind != next.kind || self.phys.checked_add(bytes) != Some(next.phys) {
            return Some(next);
        }
        self.pages = self.pages.wrapping_add(next.pages);
        next.keep();
        None
    }
}

impl Drop for PinnedRun {
    fn drop(&mut self) {
        if self.kind == Kind::Memory {
            // SAFETY: These pages are pinned, once for this run, and are in no page table.
            unsafe { unpin_range(self.phys, self.pages, self.written) };
        }
    }
}

/// Unpins the `pages` at `phys`, which were in a page table until the flush. Returns how many of them
/// are memory.
///
/// `written`: devices may have written to them. `mixed`: some may be of [`Kind::Frames`].
///
/// # Safety
///
/// Those that are memory are pinned, and the caller gives one pin of each away.
pub(crate) unsafe fn unpin(
    phys: Phys,
    pages: u64,
    written: bool,
    mixed: bool,
    _: &Flushed<'_>,
) -> u64 {
    if !mixed {
        // SAFETY: By the requirement of this function.
        unsafe { unpin_range(phys, pages, written) };
        return pages;
    }
    let mut memory = 0u64;
    for page in 0..pages {
        let Some(phys) = phys.checked_add(page.wrapping_mul(PAGE_BYTES)) else {
            break;
        };
        // SAFETY: It takes any number.
        if unsafe { bindings::pgsize_pfn_is_memory(pfn(phys)) } {
            // SAFETY: By the requirement of this function.
            unsafe { unpin_range(phys, 1, written) };
            memory = memory.wrapping_add(1);
        }
    }
    memory
}

/// # Safety
///
/// The pages are memory, pinned, and the caller gives one pin of each away.
unsafe fn unpin_range(phys: Phys, pages: u64, written: bool) {
    // SAFETY: The pages have a `struct page`, and it is the caller's right to unpin them.
    unsafe {
        bindings::unpin_user_page_range_dirty_lock(
            bindings::pgsize_pfn_to_page(pfn(phys)),
            to_usize(pages),
            written,
        )
    };
}

/// The address of the `struct page` of a frame that has one.
pub(crate) fn page_at(phys: Phys) -> u64 {
    // SAFETY: It takes any number.
    to_u64(unsafe { bindings::pgsize_pfn_to_page(pfn(phys)) }.addr())
}

const fn pfn(phys: Phys) -> usize {
    to_usize(phys.get() / PAGE_BYTES)
}

/// The frame that is a page.
pub(crate) fn phys_of(page: *mut bindings::page) -> Option<Phys> {
    // SAFETY: GUP gave it: all that a `Buffer` tells of are pages.
    let pfn = to_u64(unsafe { bindings::pgsize_page_to_pfn(page) });

    Phys::new(pfn.wrapping_mul(PAGE_BYTES))
}

/// The frame of this number.
pub(super) fn frame(pfn: u64) -> Result<Phys> {
    pfn.checked_mul(PAGE_BYTES)
        .and_then(Phys::new)
        .ok_or(EFAULT)
}
