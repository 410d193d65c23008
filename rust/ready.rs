// SPDX-License-Identifier: GPL-2.0

//! Tables that are made ready where memory can be waited for, for an edit under the lock of the tree,
//! where it can not.

#![allow(unsafe_code)]

use core::{
    cell::Cell,
    ptr::NonNull, //
};

use kernel::prelude::*;

use crate::{
    bindings,
    pool::Memory,
    reserve::new_table,
    rmap::Guard, //
};

/// Tables of all zeroes, in no page table.
///
/// # Invariants
///
/// They come from [`new_table`], and are nobody else's.
pub(crate) struct Ready {
    tables: Cell<KVec<NonNull<c_void>>>,
    node: c_int,
    /// How many there are to be before an edit begins.
    want: usize,
    /// There was none when one was asked for.
    short: Cell<bool>,
}

impl Ready {
    /// None yet: many an edit needs none. They are to come from that node.
    pub(crate) fn new(node: c_int) -> Self {
        // INVARIANT: There are none.
        Self {
            tables: Cell::new(KVec::new()),
            node,
            want: 0,
            short: Cell::new(false),
        }
    }

    /// Runs `edit`, which is atomic, with the lock of the tree held; again, with more tables, as long as
    /// it fails for want of them: it is to leave all as it was then. May sleep, without the lock.
    ///
    /// Fails as `edit`; with `ENOMEM` if there is no memory though it was waited for.
    pub(crate) fn edit<T>(
        &mut self,
        mut edit: impl FnMut(&mut Guard, Memory<'_>) -> Result<T>,
    ) -> Result<T> {
        loop {
            self.fill()?;
            self.short.set(false);
            let mut guard = Guard::lock();
            let result = edit(&mut guard, Memory::Ready(self));
            drop(guard);
            if result.is_ok() || !self.short.get() {
                return result;
            }
            // The largest leaf that there is takes some hundred of them.
            self.want = self.want.saturating_mul(4).max(2);
        }
    }

    fn fill(&mut self) -> Result {
        let tables = self.tables.get_mut();

        while tables.len() < self.want {
            tables.reserve(1, GFP_KERNEL_ACCOUNT)?;
            // INVARIANT: Just made.
            let table = new_table(self.node, bindings::GFP_KERNEL_ACCOUNT).ok_or(ENOMEM)?;
            // There is room.
            drop(tables.push_within_capacity(table));
        }
        Ok(())
    }

    /// A table, for [`Ready::edit`]; it is the caller's to free.
    pub(crate) fn take(&self) -> Option<NonNull<c_void>> {
        let mut tables = self.tables.replace(KVec::new());
        let table = tables.pop();

        self.tables.set(tables);
        self.short.set(self.short.get() || table.is_none());
        table
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        for table in self.tables.get_mut().drain_all() {
            // SAFETY: By the type invariant nobody else has it.
            unsafe { bindings::iommu_free_pages(table.as_ptr()) };
        }
    }
}
