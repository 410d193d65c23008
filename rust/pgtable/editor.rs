// SPDX-License-Identifier: GPL-2.0

//! Write access to a page table.

use core::sync::atomic::AtomicU64;

use super::{
    AdBits,
    Format,
    Iova,
    IovaRange,
    Level,
    PageSizes,
    Table,
    TablePages,
    Top,
    View, //
};

/// Write access to a page table. See the [rules](super).
#[derive(Debug)]
pub struct Editor<'p, P, F> {
    pub(super) pages: &'p mut P,
    pub(super) top: Top,
    pub(super) format: F,
    /// AD bits of leaves that an edit makes, in addition to those of the leaves that they replace.
    pub(super) born: AdBits,
}

impl<'p, P: TablePages, F: Format> Editor<'p, P, F> {
    /// Edits the page table below `top`. Tables are allocated from `pages` and retired to it.
    pub fn new(pages: &'p mut P, top: Top, format: F) -> Self {
        const {
            assert!(
                P::WRITES_BACK || !F::INCOHERENT,
                "the hardware may not see what is stored"
            );
        }
        Self {
            pages,
            top,
            format,
            born: AdBits::NONE,
        }
    }

    /// The same, for edits while the hardware sets dirty bits. Until the IOTLB is flushed it may set them
    /// in a table that the edit replaced. So leaves that are split or merged become dirty.
    pub fn tracked(self) -> Self {
        Self {
            born: self.format.dirty_bit(),
            ..self
        }
    }

    /// The current page table.
    pub fn view(&self) -> View<'_, P, F> {
        View::new(self.pages, self.top, self.format)
    }

    /// The leaf sizes that fit below the top.
    #[inline]
    pub(super) fn sizes(&self) -> PageSizes {
        self.format.sizes_down(self.top.level)
    }

    pub(super) fn slot(&self, table: Table, level: Level, iova: Iova) -> Option<&AtomicU64> {
        self.pages.entries(table).get(level.index(iova))
    }

    /// The entries for `range`, all in `table`.
    #[inline]
    pub(super) fn slots(&self, table: Table, level: Level, range: IovaRange) -> &[AtomicU64] {
        let indices = level.index(range.start())..=level.index(range.last());

        self.pages.entries(table).get(indices).unwrap_or(&[])
    }

    /// Call after stores to entries, before a store that makes the hardware reach them, and before
    /// the IOTLB flush. Does nothing if the hardware snoops.
    #[inline]
    pub(super) fn write_back(&self, entries: &[AtomicU64]) {
        if self.format.is_incoherent() {
            self.pages.write_back(entries);
        }
    }

    /// The same for the entries for `range`.
    #[inline]
    pub(super) fn write_back_range(&self, table: Table, level: Level, range: IovaRange) {
        if self.format.is_incoherent() {
            self.pages.write_back(self.slots(table, level, range));
        }
    }
}
