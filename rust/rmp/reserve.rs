// SPDX-License-Identifier: GPL-2.0

//! Tables that are kept ready for the hook: it can not wait for memory, and has none to lose time on.
//!
//! Half of them are for speed, for a table that is there already need not be made and cleared. The
//! other half are for when there is no memory. The worker sees to it that they are there.

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

/// Tables of all zeroes, in no page table.
///
/// # Invariants
///
/// They come from [`new_table`]; read and written under the lock of the tree. The vector's room, which
/// does not change, is how many there may be.
pub(crate) struct Reserve(UnsafeCell<KVec<NonNull<c_void>>>);

// SAFETY: It is touched under the lock of the tree.
unsafe impl Send for Reserve {}

// SAFETY: As above.
unsafe impl Sync for Reserve {}

impl Reserve {
    /// One that is empty yet.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: It has no requirements.
        let room = to_usize(unsafe { bindings::pgsize_reserve_tables() }.into());

        // INVARIANT: None so far.
        Ok(Self(UnsafeCell::new(KVec::with_capacity(
            room,
            GFP_KERNEL_ACCOUNT,
        )?)))
    }

    fn tables<'g>(&'g self, _guard: &'g mut Guard) -> &'g mut KVec<NonNull<c_void>> {
        // SAFETY: The lock is held, and the borrow of the guard keeps others out.
        unsafe { &mut *self.0.get() }
    }

    /// A table of all zeroes, for the hook; `None`: no memory.
    ///
    /// # Safety
    ///
    /// The lock of the tree is held, and what [`Reserve::tables`] gave is not used.
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

    /// Fills it up, as far as there is memory. May sleep.
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
            // The container's mutex is held: nobody else fills it.
            if self.tables(&mut guard).push_within_capacity(table).is_err() {
                // SAFETY: It is ours.
                unsafe { bindings::iommu_free_pages(table.as_ptr()) };
            }
        }
    }

    /// Frees all that is in it.
    pub(crate) fn empty(&self) {
        loop {
            let table = self.tables(&mut Guard::lock()).pop();
            let Some(table) = table else {
                return;
            };
            // SAFETY: By the type invariant nobody else had it.
            unsafe { bindings::iommu_free_pages(table.as_ptr()) };
        }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.empty();
    }
}
