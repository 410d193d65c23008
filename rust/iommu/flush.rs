// SPDX-License-Identifier: GPL-2.0

//! What is taken out of a page table, and the flush that follows.
//!
//! What was taken out may still be in the IOTLB. So it is taken out by a [`Gather`] only, which
//! [`flushed`] lends and flushes; the [`Flushed`] that comes back is what unpinning asks for.

#![allow(unsafe_code)]

use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::NonNull, //
};

use kernel::prelude::*;

use crate::{
    pgtable::IovaRange,
    sys::{
        bindings,
        num::{
            to_u64,
            to_usize, //
        }, //
    }, //
};

/// Runs `work`, which may take things out of the page table, then flushes the IOTLB for all that it
/// took out. Atomic, if `work` is.
///
/// # Safety
///
/// `domain` is a paging domain that stays valid for `'d`.
pub(crate) unsafe fn flushed<'d, R>(
    domain: NonNull<bindings::iommu_domain>,
    work: impl FnOnce(&mut Gather<'d>) -> R,
) -> (R, Flushed<'d>) {
    let mut storage = MaybeUninit::uninit();

    // SAFETY: `storage` is valid for writing.
    unsafe { bindings::pgsize_gather_init(storage.as_mut_ptr()) };
    // INVARIANT: It is initialised, and stays where it is until the end of this function.
    let mut gather = Gather {
        raw: storage.as_mut_ptr(),
        domain,
        tables: false,
        _domain: PhantomData,
    };
    let result = work(&mut gather);
    if gather.tables {
        // The driver flushes cached pointers to tables only if it is to free tables.
        // SAFETY: The domain is valid, by the invariants.
        unsafe { bindings::pgsize_flush_all(domain.as_ptr()) };
    } else if !gather.is_empty() {
        // SAFETY: Both are valid, by the invariants.
        unsafe { bindings::pgsize_gather_sync(domain.as_ptr(), gather.raw) };
    }
    (result, Flushed(PhantomData))
}

/// What was taken out of a page table and is to be flushed.
///
/// # Invariants
///
/// `raw` points to an initialised gather of `domain`, which does not move; `domain` is valid.
pub(crate) struct Gather<'d> {
    raw: *mut bindings::iommu_iotlb_gather,
    domain: NonNull<bindings::iommu_domain>,
    /// Tables were taken out that somebody else is to free, and none that is to be freed here.
    tables: bool,
    _domain: PhantomData<&'d bindings::iommu_domain>,
}

impl Gather<'_> {
    /// Unmaps `range`, up to the first hole in it. Returns how many bytes that was.
    pub(crate) fn unmap(&mut self, range: IovaRange) -> u64 {
        let Some(bytes) = range.bytes() else {
            return 0;
        };

        // SAFETY: Domain and gather are valid, by the invariants. The driver checks address and size.
        let unmapped = unsafe {
            bindings::iommu_unmap_fast(
                self.domain.as_ptr(),
                to_usize(range.start().get()),
                to_usize(bytes),
                self.raw,
            )
        };
        to_u64(unmapped)
    }

    /// Whether nothing was taken out. A table is taken out with what it translated.
    fn is_empty(&self) -> bool {
        // SAFETY: By the type invariant.
        let gather = unsafe { &*self.raw };

        gather.start > gather.end
    }

    /// What the IOTLB holds of `range` is old.
    pub(crate) fn touch(&mut self, range: IovaRange) {
        // SAFETY: By the type invariant.
        let gather = unsafe { &mut *self.raw };

        gather.start = gather.start.min(to_usize(range.start().get()));
        gather.end = gather.end.max(to_usize(range.last().get()));
    }

    /// A table was taken out, and is kept: no cached pointer to it may survive the flush. All tables
    /// that are taken out meanwhile are kept.
    pub(super) fn keep_table(&mut self) {
        self.tables = true;
    }

    /// Frees `table` after the flush.
    ///
    /// # Safety
    ///
    /// It came from `iommu_alloc_pages_node_sz`, and no entry that the hardware may read after the
    /// flush leads to it.
    pub(super) unsafe fn free_table(&mut self, table: *mut c_void) {
        // SAFETY: The gather is valid; the table is as it is to be.
        unsafe { bindings::pgsize_list_add_table(&raw mut (*self.raw).freelist, table) };
    }
}

/// The proof that what was taken out of the domain's page table is in no IOTLB.
pub(crate) struct Flushed<'d>(PhantomData<&'d bindings::iommu_domain>);
