// SPDX-License-Identifier: GPL-2.0

//! Pinned runs of frames, and unpinning.

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

/// The kind of frames of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Memory. Each page is pinned and charged.
    Memory,
    /// PFNs without a usable `struct page`, such as device registers. Neither pinned nor charged.
    Frames,
}

/// Physically contiguous frames that are pinned if they are memory. Dropping the run unpins them.
#[must_use]
pub(crate) struct PinnedRun {
    phys: Phys,
    pages: u64,
    kind: Kind,
    /// Devices may have written to the pages.
    written: bool,
}

impl PinnedRun {
    /// `pages` frames from `phys` on. The run owns one pin of each page of memory.
    pub(crate) fn new(phys: Phys, pages: u64, kind: Kind) -> Self {
        Self {
            phys,
            pages,
            kind,
            written: false,
        }
    }

    /// Physical address of the first frame.
    pub(crate) fn phys(&self) -> Phys {
        self.phys
    }

    /// Number of frames.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// The first page, for memory.
    pub(crate) fn first_page(&self) -> *mut bindings::page {
        // SAFETY: It has no requirements.
        unsafe { bindings::pgsize_pfn_to_page(pfn(self.phys)) }
    }

    /// The IOVA range of the run, if it starts at `start`; `None` on overflow.
    pub(crate) fn range_from(&self, start: Iova) -> Option<IovaRange> {
        IovaRange::with_len(start, self.pages.checked_mul(PAGE_BYTES)?)
    }

    /// The kind of its frames.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The run was mapped for a moment: devices may have written to it if they `could`.
    pub(crate) fn was_mapped(&mut self, could: bool) {
        self.written |= could;
    }

    /// Passes the pins to the page table. [`unpin`] releases them later.
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }

    /// Appends `next` if it is adjacent and of the same kind; otherwise returns it.
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
            // SAFETY: The run owns one pin of each page, and the pages are not mapped.
            unsafe { unpin_range(self.phys, self.pages, self.written) };
        }
    }
}

/// How many of the `pages` pages from `phys` on are memory. `mixed`: some may be [`Kind::Frames`].
pub(crate) fn memory_pages(phys: Phys, pages: u64, mixed: bool) -> u64 {
    if !mixed {
        return pages;
    }
    let is_memory = |page: &u64| {
        let phys = phys.checked_add(page.wrapping_mul(PAGE_BYTES));
        // SAFETY: It takes any number.
        phys.is_some_and(|phys| unsafe { bindings::pgsize_pfn_is_memory(pfn(phys)) })
    };

    to_u64((0..pages).filter(is_memory).count())
}

/// Unpins `pages` pages from `phys` on that were mapped before the flush. Returns how many are
/// memory.
///
/// `written`: devices may have written to them. `mixed`: some may be [`Kind::Frames`].
///
/// # Safety
///
/// The caller owns one pin of each page of memory, and gives it up.
pub(crate) unsafe fn unpin(
    phys: Phys,
    pages: u64,
    written: bool,
    mixed: bool,
    _: &Flushed<'_>,
) -> u64 {
    if !mixed {
        // SAFETY: By the requirement.
        unsafe { unpin_range(phys, pages, written) };
        return pages;
    }
    let mut memory = 0u64;
    for page in 0..pages {
        let Some(phys) = phys.checked_add(page.wrapping_mul(PAGE_BYTES)) else {
            break;
        };
        // SAFETY: It accepts any number.
        if unsafe { bindings::pgsize_pfn_is_memory(pfn(phys)) } {
            // SAFETY: By the requirement.
            unsafe { unpin_range(phys, 1, written) };
            memory = memory.wrapping_add(1);
        }
    }
    memory
}

/// Unpins pages of memory, and marks them dirty if `written`.
///
/// # Safety
///
/// The pages are memory. The caller owns one pin of each, and gives it up.
unsafe fn unpin_range(phys: Phys, pages: u64, written: bool) {
    // SAFETY: The pages have a `struct page`. By the requirement the caller owns a pin of each.
    unsafe {
        bindings::unpin_user_page_range_dirty_lock(
            bindings::pgsize_pfn_to_page(pfn(phys)),
            to_usize(pages),
            written,
        )
    };
}

/// The address of the `struct page` of a frame of memory.
pub(crate) fn page_at(phys: Phys) -> u64 {
    // SAFETY: It accepts any number.
    to_u64(unsafe { bindings::pgsize_pfn_to_page(pfn(phys)) }.addr())
}

const fn pfn(phys: Phys) -> usize {
    to_usize(phys.get() / PAGE_BYTES)
}

/// The physical address of `page`, which GUP returned.
pub(crate) fn phys_of(page: *mut bindings::page) -> Option<Phys> {
    // SAFETY: GUP returned it: a `Buffer` holds nothing else.
    let pfn = to_u64(unsafe { bindings::pgsize_page_to_pfn(page) });

    Phys::new(pfn.wrapping_mul(PAGE_BYTES))
}

/// The physical address of a PFN. Fails with `EFAULT` if an entry cannot hold it.
pub(super) fn frame(pfn: u64) -> Result<Phys> {
    pfn.checked_mul(PAGE_BYTES)
        .and_then(Phys::new)
        .ok_or(EFAULT)
}
