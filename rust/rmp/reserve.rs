// SPDX-License-Identifier: GPL-2.0

//! A stock of tables for the hook, which cannot sleep.
//!
//! One half saves the time to allocate and clear a table. The other half is for when there is no
//! memory. The worker refills the stock.

#![allow(unsafe_code)]

use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};

use kernel::prelude::*;

use super::{
    lock::Guard,
    work::work_soon, //
};
use crate::{
    iommu::new_table,
    sys::{
        bindings,
        num::to_usize, //
    }, //
};

/// Tables of zeroes, in no page table.
///
/// # Invariants
///
/// The tables come from [`new_table`]. Protected by the rmap's lock. The capacity of the vector is
/// the maximum number of tables, and does not change.
pub(crate) struct Reserve(UnsafeCell<KVec<NonNull<c_void>>>);

// SAFETY: Accessed under the rmap's lock only.
unsafe impl Send for Reserve {}

// SAFETY: As above.
unsafe impl Sync for Reserve {}

impl Reserve {
    /// An empty stock. Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: It has no requirements.
        let room = to_usize(unsafe { bindings::pgsize_reserve_tables() }.into());

        // INVARIANT: Empty.
        Ok(Self(UnsafeCell::new(KVec::with_capacity(
            room,
            GFP_KERNEL_ACCOUNT,
        )?)))
    }

    fn tables<'g>(&'g self, _guard: &'g mut Guard) -> &'g mut KVec<NonNull<c_void>> {
        // SAFETY: The lock is held, and the borrow of the guard keeps others out.
        unsafe { &mut *self.0.get() }
    }

    /// A table of zeroes for the hook; `None`: no memory. Atomic.
    ///
    /// # Safety
    ///
    /// The rmap's lock is held, and no result of [`Reserve::tables`] is in use.
    pub(crate) unsafe fn take(&self, node: c_int) -> Option<NonNull<c_void>> {
        // SAFETY: By the requirement.
        let tables = unsafe { &mut *self.0.get() };
        let spare = tables.capacity() / 2;

        if tables.len() > spare {
            if tables.len().wrapping_sub(1) == spare {
                work_soon();
            }
            return tables.pop();
        }
        if tables.capacity() != 0 {
            work_soon();
        }
        new_table(node, bindings::GFP_ATOMIC).or_else(|| tables.pop())
    }

    /// Fills the stock as far as there is memory. Sleeps. Call with the mutex of the container
    /// held.
    pub(crate) fn fill(&self, node: c_int) {
        loop {
            let mut guard = Guard::lock();
            let tables = self.tables(&mut guard);
            if tables.len() == tables.capacity() {
                return;
            }
            drop(guard);
            let Some(table) = new_table(node, bindings::GFP_KERNEL_ACCOUNT) else {
                return;
            };
            let mut guard = Guard::lock();
            // The mutex of the container excludes other callers.
            if self.tables(&mut guard).push_within_capacity(table).is_err() {
                // SAFETY: It is ours.
                unsafe { bindings::iommu_free_pages(table.as_ptr()) };
            }
        }
    }

    /// Frees all tables.
    pub(crate) fn empty(&self) {
        loop {
            let table = self.tables(&mut Guard::lock()).pop();
            let Some(table) = table else {
                return;
            };
            // SAFETY: By the type invariant it is ours.
            unsafe { bindings::iommu_free_pages(table.as_ptr()) };
        }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.empty();
    }
}
