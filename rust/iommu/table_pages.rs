// SPDX-License-Identifier: GPL-2.0

//! Memory for page tables.

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

/// Allocates a table of zeroes; `None`: no memory. Free it with `iommu_free_pages`.
pub(crate) fn new_table(node: c_int, flags: bindings::gfp_t) -> Option<NonNull<c_void>> {
    // SAFETY: `PAGE_BYTES` is a valid size.
    NonNull::new(unsafe { bindings::iommu_alloc_pages_node_sz(node, flags, to_usize(PAGE_BYTES)) })
}

/// Reads tables through the kernel's direct map.
pub(crate) struct DirectMap;

impl Tables for DirectMap {
    #[inline]
    fn entries(&self, table: Table) -> &Entries {
        // SAFETY: A `Table` is a page of 512 entries that is in use, as its creator guarantees.
        // Tables are freed under the mutex of the container only, which readers hold.
        unsafe { &*bindings::pgsize_phys_to_virt(table.phys().get()).cast::<Entries>() }
    }
}

/// For edits that neither allocate nor free tables.
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

/// Allocates tables from `source`, and frees retired ones with the flush of `gather`.
pub(crate) struct Pool<'p, 'd> {
    /// Frees the retired tables.
    pub(crate) gather: &'p mut Gather<'d>,
    /// The NUMA node for new tables.
    pub(crate) node: c_int,
    /// Where tables come from.
    pub(crate) source: TableSource<'p>,
}

/// A stock of tables for edits in atomic context. It keeps the tables that they retire.
pub(crate) trait Store {
    /// A table of zeroes; `None`: no memory. Atomic.
    fn take(&self, node: c_int) -> Option<NonNull<c_void>>;

    /// Keeps a retired table, which someone may be reading. Atomic.
    ///
    /// # Safety
    ///
    /// The table comes from `iommu_alloc_pages_node_sz`, is not in a page table, and is in no IOTLB
    /// after the flush that ends the edit.
    unsafe fn keep(&self, table: *mut c_void);
}

/// Where an edit gets its tables from.
#[derive(Clone, Copy)]
pub(crate) enum TableSource<'m> {
    /// The allocator. Sleeps; charged to the process.
    Sleeping,
    /// Allocated in advance. Atomic.
    Prealloc(&'m Prealloc),
    /// A stock, which also keeps the retired tables. Atomic.
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
        // SAFETY: The page is in the direct map.
        let phys = unsafe { bindings::pgsize_virt_to_phys(page.as_ptr()) };

        Phys::new(phys).and_then(Table::new).ok_or(AllocError)
    }

    fn retire(&mut self, table: Table) {
        // SAFETY: The editor took the table out of the page table. All tables of the domain come
        // from `iommu_alloc_pages_node_sz`, also those of the driver (`generic_pt/iommu_pt.h:
        // _table_alloc`).
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
        // SAFETY: It comes from `alloc`, and no entry points to it.
        unsafe { bindings::iommu_free_pages(bindings::pgsize_phys_to_virt(table.phys().get())) };
    }
}

/// Tables that are allocated before an atomic edit.
///
/// # Invariants
///
/// The tables come from [`new_table`], are all zeroes, and are ours.
pub(crate) struct Prealloc {
    tables: Cell<KVec<NonNull<c_void>>>,
    node: c_int,
    /// The number of tables to allocate before the next try.
    want: usize,
    /// An edit asked for a table and there was none.
    short: Cell<bool>,
}

impl Prealloc {
    /// Without tables: many edits need none. `node` is the NUMA node for new ones.
    pub(crate) fn new(node: c_int) -> Self {
        // INVARIANT: There are none.
        Self {
            tables: Cell::new(KVec::new()),
            node,
            want: 0,
            short: Cell::new(false),
        }
    }

    /// Calls `edit`, which is atomic, until it does not run out of tables; allocates more before
    /// each new try. An `edit` that runs out of tables must undo its changes.
    ///
    /// Sleeps outside `edit`. Fails as `edit`, and with `ENOMEM`.
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
            // The largest leaf needs some hundred tables.
            self.want = self.want.saturating_mul(4).max(2);
        }
    }

    fn fill(&mut self) -> Result {
        let tables = self.tables.get_mut();

        while tables.len() < self.want {
            tables.reserve(1, GFP_KERNEL_ACCOUNT)?;
            // INVARIANT: Newly allocated.
            let table = new_table(self.node, bindings::GFP_KERNEL_ACCOUNT).ok_or(ENOMEM)?;
            // There is room.
            drop(tables.push_within_capacity(table));
        }
        Ok(())
    }

    /// A table for [`Prealloc::edit`]. The caller frees it.
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
            // SAFETY: By the type invariant it is ours.
            unsafe { bindings::iommu_free_pages(table.as_ptr()) };
        }
    }
}
