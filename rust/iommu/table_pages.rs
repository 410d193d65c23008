// SPDX-License-Identifier: GPL-2.0

//! Where the tables of page tables are, come from and go to.

#![allow(unsafe_code)]

use core::{
    cell::Cell,
    ptr::NonNull, //
};

use kernel::{
    alloc::AllocError,
    prelude::*, //
};

use super::flush::Gather;
use crate::{
    pgtable::{
        Entries,
        Phys,
        Table,
        TablePages,
        Tables,
        PAGE_BYTES, //
    },
    sys::{
        bindings,
        num::to_usize, //
    }, //
};

/// A table of all zeroes that the caller is to free; `None`: no memory.
pub(crate) fn new_table(node: c_int, flags: bindings::gfp_t) -> Option<NonNull<c_void>> {
    // SAFETY: A page is a size that it takes.
    NonNull::new(unsafe { bindings::iommu_alloc_pages_node_sz(node, flags, to_usize(PAGE_BYTES)) })
}

/// Tables as the kernel sees them: all of memory is in its direct map.
pub(crate) struct DirectMap;

impl Tables for DirectMap {
    #[inline]
    fn entries(&self, table: Table) -> &Entries {
        // SAFETY: A `Table` is a page of 512 entries, and who made it vouches that it is in use: the
        // root of a domain's page table, or reached from it. Tables are freed under the container's
        // mutex only, which whoever reads them holds.
        unsafe { &*bindings::pgsize_phys_to_virt(table.phys().get()).cast::<Entries>() }
    }
}

/// For edits for which no table comes or goes.
pub(super) struct NoPages;

impl Tables for NoPages {
    #[inline]
    fn entries(&self, table: Table) -> &Entries {
        DirectMap.entries(table)
    }
}

impl TablePages for NoPages {
    type Error = AllocError;

    fn alloc(&mut self) -> Result<Table, AllocError> {
        Err(AllocError)
    }

    fn retire(&mut self, _: Table) {}

    fn discard(&mut self, _: Table) {}
}

/// The driver's tables: allocated as it does, freed with its flush.
pub(crate) struct Pool<'p, 'd> {
    pub(crate) gather: &'p mut Gather<'d>,
    pub(crate) node: c_int,
    pub(crate) source: TableSource<'p>,
}

/// Who has tables ready for edits that can not wait, and keeps those that they take out.
pub(crate) trait Store {
    /// A table of all zeroes; `None`: no memory. Atomic.
    fn take(&self, node: c_int) -> Option<NonNull<c_void>>;

    /// Keeps `table`, which was taken out: somebody may be reading it. Atomic.
    ///
    /// # Safety
    ///
    /// It came from `iommu_alloc_pages_node_sz`, is in no page table, and is in no IOTLB after the
    /// flush that ends the edit.
    unsafe fn keep(&self, table: *mut c_void);
}

/// How memory for tables is had.
#[derive(Clone, Copy)]
pub(crate) enum TableSource<'m> {
    /// Patiently, and charged to the process.
    Sleeping,
    /// Was waited for beforehand.
    Prealloc(&'m Prealloc),
    /// At once, from a store, which also keeps the tables that are taken out.
    Store(&'m dyn Store),
}

impl Tables for Pool<'_, '_> {
    #[inline]
    fn entries(&self, table: Table) -> &Entries {
        DirectMap.entries(table)
    }
}

impl TablePages for Pool<'_, '_> {
    type Error = AllocError;

    fn alloc(&mut self) -> Result<Table, AllocError> {
        let page = match self.source {
            TableSource::Sleeping => new_table(self.node, bindings::GFP_KERNEL_ACCOUNT),
            TableSource::Prealloc(ready) => ready.take(),
            TableSource::Store(store) => store.take(self.node),
        };
        let page = page.ok_or(AllocError)?;
        // SAFETY: It is in the direct map.
        let phys = unsafe { bindings::pgsize_virt_to_phys(page.as_ptr()) };

        Phys::new(phys).and_then(Table::new).ok_or(AllocError)
    }

    fn retire(&mut self, table: Table) {
        // SAFETY: The editor took it out of the page table. All tables of a domain come from
        // `iommu_alloc_pages_node_sz`: the driver's too (`generic_pt/iommu_pt.h: _table_alloc`).
        unsafe {
            let table = bindings::pgsize_phys_to_virt(table.phys().get());
            match self.source {
                TableSource::Store(store) => {
                    store.keep(table);
                    self.gather.keep_table();
                }
                _ => self.gather.free_table(table),
            }
        };
    }

    fn discard(&mut self, table: Table) {
        // SAFETY: It came from `alloc`, and nothing leads to it.
        unsafe { bindings::iommu_free_pages(bindings::pgsize_phys_to_virt(table.phys().get())) };
    }
}

/// Tables of all zeroes, in no page table.
///
/// # Invariants
///
/// They come from [`new_table`], and are nobody else's.
pub(crate) struct Prealloc {
    tables: Cell<KVec<NonNull<c_void>>>,
    node: c_int,
    /// How many there are to be before an edit begins.
    want: usize,
    /// There was none when one was asked for.
    short: Cell<bool>,
}

impl Prealloc {
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

    /// Runs `edit`, which is atomic; again, with more tables, as long as it fails for want of them: it
    /// is to leave all as it was then. May sleep, but not within `edit`.
    ///
    /// Fails as `edit`; with `ENOMEM` if there is no memory though it was waited for.
    pub(crate) fn edit<T>(
        &mut self,
        mut edit: impl FnMut(TableSource<'_>) -> Result<T>,
    ) -> Result<T> {
        loop {
            self.fill()?;
            self.short.set(false);
            let result = edit(TableSource::Prealloc(self));
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

    /// A table, for [`Prealloc::edit`]; it is the caller's to free.
    pub(crate) fn take(&self) -> Option<NonNull<c_void>> {
        let mut tables = self.tables.replace(KVec::new());
        let table = tables.pop();

        self.tables.set(tables);
        self.short.set(self.short.get() || table.is_none());
        table
    }
}

impl Drop for Prealloc {
    fn drop(&mut self) {
        for table in self.tables.get_mut().drain_all() {
            // SAFETY: By the type invariant nobody else has it.
            unsafe { bindings::iommu_free_pages(table.as_ptr()) };
        }
    }
}
