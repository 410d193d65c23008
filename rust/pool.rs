// SPDX-License-Identifier: GPL-2.0

//! Where the tables of page tables are, come from and go to.

#![allow(unsafe_code)]

use kernel::{
    alloc::AllocError,
    prelude::*, //
};

use crate::{
    bindings,
    flush::Gather,
    follower::Follower,
    pgtable::{
        Entries,
        Phys,
        Table,
        TablePages,
        Tables, //
    },
    ready::Ready,
    reserve::new_table, //
};

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
pub(crate) struct NoPages;

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
    pub(crate) memory: Memory<'p>,
}

/// How memory for tables is had.
#[derive(Clone, Copy)]
pub(crate) enum Memory<'m> {
    /// Patiently, and charged to the process.
    Sleeping,
    /// Was waited for beforehand.
    Ready(&'m Ready),
    /// At once, under the lock of the [`rmap`](crate::rmap): from the reserve, if there is one; tables
    /// that are taken out are kept, for somebody may be reading them.
    Hook(&'m Follower),
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
        let page = match self.memory {
            Memory::Sleeping => new_table(self.node, bindings::GFP_KERNEL_ACCOUNT),
            Memory::Ready(ready) => ready.take(),
            // SAFETY: The lock of the tree is held.
            Memory::Hook(follower) => unsafe { follower.reserve.take(self.node) },
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
            match self.memory {
                Memory::Hook(follower) => {
                    bindings::pgsize_list_add_table(follower.retired(), table);
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
