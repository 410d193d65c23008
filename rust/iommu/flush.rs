// SPDX-License-Identifier: GPL-2.0

//! Unmap and IOTLB flush.
//!
//! An unmapped translation may remain in the IOTLB. Only a [`Gather`] unmaps; [`flushed`] provides
//! it and flushes. The [`Flushed`] that it returns is required to unpin pages.

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

/// Calls `work`, which may unmap through the [`Gather`], then flushes the IOTLB for what it
/// unmapped. Atomic if `work` is.
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
    // INVARIANT: It is initialized, and does not move before the end of this function.
    let mut gather = Gather {
        raw: storage.as_mut_ptr(),
        domain,
        tables: false,
        _domain: PhantomData,
    };
    let result = work(&mut gather);
    if gather.tables {
        // The driver flushes cached pointers to tables only if the gather has tables to free
        // (`amd/iommu.c: amd_iommu_iotlb_sync`).
        // SAFETY: The domain is valid, by the invariants.
        unsafe { bindings::pgsize_flush_all(domain.as_ptr()) };
    } else if !gather.is_empty() {
        // SAFETY: Both are valid, by the invariants.
        unsafe { bindings::pgsize_gather_sync(domain.as_ptr(), gather.raw) };
    }
    (result, Flushed(PhantomData))
}

/// What was unmapped and has to be flushed.
///
/// # Invariants
///
/// `raw` points to an initialized gather of `domain`, which does not move. `domain` is valid.
pub(crate) struct Gather<'d> {
    raw: *mut bindings::iommu_iotlb_gather,
    domain: NonNull<bindings::iommu_domain>,
    /// Tables were taken out, and all of them are kept by someone else.
    tables: bool,
    _domain: PhantomData<&'d bindings::iommu_domain>,
}

impl Gather<'_> {
    /// Unmaps `range` up to the first hole. Returns the number of bytes that it unmapped.
    pub(crate) fn unmap(&mut self, range: IovaRange) -> u64 {
        let Some(bytes) = range.bytes() else {
            return 0;
        };

        // SAFETY: Domain and gather are valid, by the invariants. The driver checks the address and
        // the size.
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

    /// Whether nothing was unmapped. A table is never taken out alone.
    fn is_empty(&self) -> bool {
        // SAFETY: By the type invariant.
        let gather = unsafe { &*self.raw };

        gather.start > gather.end
    }

    /// Adds `range` to the flush.
    pub(crate) fn touch(&mut self, range: IovaRange) {
        // SAFETY: By the type invariant.
        let gather = unsafe { &mut *self.raw };

        gather.start = gather.start.min(to_usize(range.start().get()));
        gather.end = gather.end.max(to_usize(range.last().get()));
    }

    /// A table was taken out that the caller keeps: the flush covers cached pointers to it. Either
    /// all tables of this gather are kept, or none.
    pub(super) fn keep_table(&mut self) {
        self.tables = true;
    }

    /// Frees `table` after the flush.
    ///
    /// # Safety
    ///
    /// The table comes from `iommu_alloc_pages_node_sz`, and the hardware cannot reach it after the
    /// flush.
    pub(super) unsafe fn free_table(&mut self, table: *mut c_void) {
        // SAFETY: The gather is valid, and the caller gives the table away.
        unsafe { bindings::pgsize_list_add_table(&raw mut (*self.raw).freelist, table) };
    }
}

/// Proof that the IOTLB was flushed for what a [`Gather`] unmapped from the domain.
pub(crate) struct Flushed<'d>(PhantomData<&'d bindings::iommu_domain>);
