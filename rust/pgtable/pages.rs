// SPDX-License-Identifier: GPL-2.0

//! Maps and unmaps single 4K pages in an existing table. No other edit changes a translation.

use core::{
    slice,
    sync::atomic::{
        AtomicU64,
        Ordering, //
    }, //
};

use super::{
    subtree::TableFree,
    AdBits,
    Attrs,
    Changes,
    Editor,
    Entries,
    Entry,
    Error,
    Format,
    Iova,
    IovaRange,
    LeafEntry,
    Level,
    PageSize,
    Phys,
    TablePages, //
};

/// Maximum number of tables that one call reads.
const TABLES_AT_ONCE: u32 = 512;

impl<P: TablePages, F: Format> Editor<'_, P, F> {
    /// Returns whether there is a level-0 table for the `count` pages from `at` on, all of whose
    /// entries for them are free.
    pub fn has_room(&self, at: Iova, count: usize) -> bool {
        self.room(at, count).is_some()
    }

    /// An existing level-0 table, and its entries for `count` pages from `at` on, if they are free.
    fn room(&self, at: Iova, count: usize) -> Option<(&Entries, &[AtomicU64])> {
        let all = self.pages.entries(self.table_at(at, Level::ZERO)?);
        let slots = all.get(Level::ZERO.index(at)..)?.get(..count)?;
        let is_free = |slot: &AtomicU64| slot.load(Ordering::Relaxed) == 0;

        (at.is_aligned(PageSize::SIZE_4K) && slots.iter().all(is_free)).then_some((all, slots))
    }

    /// Maps `pages` from `at` on, as 4K leaves with `attrs`, into an existing level-0 table.
    ///
    /// All or nothing. Fails with [`Error::Changed`] if there is no such table, if the pages cross
    /// its end, or if anything is mapped there.
    ///
    /// Returns whether the first and the last entry of the table can be those of a contiguous block
    /// of 2M. If not, no 2M leaf fits there.
    ///
    /// No flush is needed: hardware does not cache absent entries. An emulated IOMMU may cache
    /// them; the driver's `iotlb_sync_map` notifies it.
    pub fn fill(
        &mut self,
        at: Iova,
        attrs: Attrs,
        pages: &[Phys],
    ) -> Result<bool, Error<P::Error>> {
        let is_page = |page: &Phys| page.is_aligned(PageSize::SIZE_4K);
        let (all, slots) = self
            .room(at, pages.len())
            .filter(|_| pages.iter().all(is_page))
            .ok_or(Error::Changed(at))?;

        for (slot, page) in slots.iter().zip(pages) {
            let leaf = LeafEntry {
                phys: *page,
                size: PageSize::SIZE_4K,
                attrs,
                ad_bits: AdBits::NONE,
            };
            slot.store(self.format.leaf(leaf, Level::ZERO), Ordering::Release);
        }
        self.write_back(slots);

        let ends = all.first().zip(all.last());
        Ok(ends.is_some_and(|(first, last)| self.may_be_ends(first, last)))
    }

    /// Whether these entries can be the first and the last one of a level-0 table that maps a
    /// contiguous block of 2M. Leaves larger than 4K are not checked.
    fn may_be_ends(&self, first: &AtomicU64, last: &AtomicU64) -> bool {
        const LAST: u64 = PageSize::SIZE_2M.mask() & !PageSize::SIZE_4K.mask();
        let (first, last) = (first.load(Ordering::Relaxed), last.load(Ordering::Relaxed));
        let page = |raw| self.format.decode_4k(raw, Level::ZERO);

        match (page(first), page(last)) {
            (Some(first), Some(last)) => {
                first.phys.is_aligned(PageSize::SIZE_2M)
                    && first.phys.checked_add(LAST) == Some(last.phys)
            }
            _ => first != 0 && last != 0,
        }
    }

    /// Unmaps the 4K leaves of `range`, and calls `taken` with each.
    ///
    /// All or nothing. Fails with [`Error::Changed`] if the range is not within one level-0 table,
    /// or if it has a larger leaf. The caller flushes the IOTLB for the range.
    pub fn take(
        &mut self,
        range: IovaRange,
        mut taken: impl FnMut(Iova, Phys),
    ) -> Result<(), Error<P::Error>> {
        let level = Level::ZERO;
        let refused = || Error::Changed(range.start());
        let table = self.table_at(range.start(), level).ok_or_else(refused)?;
        if level.table_last(range.start()) < range.last() {
            return Err(refused());
        }
        let slots = self.pages.entries(table);
        let slots = slots
            .get(level.index(range.start())..=level.index(range.last()))
            .ok_or_else(refused)?;
        let is_good = |slot: &AtomicU64| {
            let raw = slot.load(Ordering::Relaxed);
            raw == 0 || self.format.decode_4k(raw, level).is_some()
        };

        if !slots.iter().all(is_good) {
            return Err(refused());
        }
        let mut at = Some(range.start());
        for slot in slots {
            let raw = match slot.load(Ordering::Relaxed) {
                0 => 0,
                _ => slot.swap(0, Ordering::AcqRel),
            };
            if let (Some(leaf), Some(iova)) = (self.format.decode_4k(raw, level), at) {
                taken(iova, leaf.phys);
            }
            at = at.and_then(|iova| iova.checked_add(PageSize::SIZE_4K.bytes()));
        }
        self.write_back(slots);
        Ok(())
    }

    /// Retires empty level-0 tables of the 2M blocks in `range`. Reads a bounded number of them,
    /// and returns the part of the range that is left.
    ///
    /// Flush the IOTLB for [`Changes::touched`] before the tables are freed and before anything is
    /// mapped there.
    pub fn drop_empty(&mut self, range: IovaRange) -> (Changes, Option<IovaRange>) {
        let mut changes = Changes::NONE;
        let mut left = Some(range);
        let mut looks = TABLES_AT_ONCE;
        let Some(above) = Level::new(1) else {
            return (changes, None);
        };

        while let Some(todo) = left.filter(|_| looks != 0) {
            looks = looks.wrapping_sub(1);
            let block = IovaRange::block(todo.start(), above.entry_size());
            left = todo.behind(block.last());
            let Some(table) = self.table_at(block.start(), above) else {
                left = todo.behind(self.absent_last(block.start()));
                continue;
            };
            let raw = self
                .slot(table, above, block.start())
                .map_or(0, |slot| slot.load(Ordering::Acquire));
            let Entry::Table(child) = self.format.decode(raw, above) else {
                continue;
            };
            let empty = |slot: &AtomicU64| slot.load(Ordering::Relaxed) == 0;
            if !todo.covers(block) || !self.pages.entries(child).iter().all(empty) {
                continue;
            }
            if let Some(slot) = self.slot(table, above, block.start()) {
                slot.store(0, Ordering::Release);
                self.write_back(slice::from_ref(slot));
                changes.add_touch(block);
                // An empty table has no AD bits.
                let _ = self.free_subtree(child, Level::ZERO, TableFree::AfterFlush);
            }
        }
        (changes, left)
    }

    /// The last address up to which there is no table, given that no level-1 table translates `at`.
    fn absent_last(&self, at: Iova) -> Iova {
        let mut level = Level::new(1);
        let mut last = at;

        while let Some(here) = level.filter(|here| self.table_at(at, *here).is_none()) {
            last = here.table_last(at);
            level = Level::new(here.get().wrapping_add(1));
        }
        last
    }
}
