// SPDX-License-Identifier: GPL-2.0

//! Installs entries, and builds and frees the tables below them.

use core::{
    slice,
    sync::atomic::{
        AtomicU64,
        Ordering, //
    }, //
};

use super::{
    tiling::Plan,
    AdBits,
    Editor,
    Entry,
    Error,
    Format,
    Iova,
    IovaRange,
    LeafEntry,
    Level,
    Table,
    TablePages, //
};

/// When the tables of a subtree are freed.
#[derive(Clone, Copy)]
pub(super) enum TableFree {
    /// The hardware may read them.
    AfterFlush,
    /// The hardware has never seen them.
    Now,
}

impl<P: TablePages, F: Format> Editor<'_, P, F> {
    /// Replaces the entries for `range` by leaves like `first`, which fill the range. Retires the
    /// tables that the entries pointed to.
    pub(super) fn install_leaves(
        &mut self,
        table: Table,
        level: Level,
        range: IovaRange,
        first: LeafEntry,
    ) -> Result<(), Error<P::Error>> {
        let mut raw = self.format.leaf(first, level);
        let mut at = range.start();

        loop {
            self.install_leaf(table, level, IovaRange::block(at, first.size), raw)?;
            raw = raw.wrapping_add(first.size.bytes());
            match at
                .align_last(first.size)
                .next()
                .filter(|next| *next <= range.last())
            {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
    }

    /// Stores `raw` into each entry for `range`.
    pub(super) fn install_leaf(
        &mut self,
        table: Table,
        level: Level,
        range: IovaRange,
        raw: u64,
    ) -> Result<(), Error<P::Error>> {
        let done = self.exchange_leaf(table, level, range, raw);

        self.write_back_range(table, level, range);
        done
    }

    /// Like [`Self::install_leaf`], but does not write back.
    fn exchange_leaf(
        &mut self,
        table: Table,
        level: Level,
        range: IovaRange,
        raw: u64,
    ) -> Result<(), Error<P::Error>> {
        let mut at = range.start();

        loop {
            let slot = self.slot(table, level, at).ok_or(Error::Changed(at))?;
            let mut old = slot.load(Ordering::Acquire);
            let child = loop {
                let (new, child) = match self.format.decode(old, level) {
                    Entry::Absent => return Err(Error::Changed(at)),
                    Entry::Leaf(leaf) => (raw | leaf.ad_bits.bits(), None),
                    Entry::Table(child) => (raw, Some(child)),
                };
                match slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break child,
                    Err(now) => old = now,
                }
            };

            if let (Some(child), Some(below)) = (child, level.below()) {
                let ad_bits = self.free_subtree(child, below, TableFree::AfterFlush);
                if let (Some(slot), true) = (self.slot(table, level, at), ad_bits != AdBits::NONE) {
                    slot.fetch_or(ad_bits.bits(), Ordering::AcqRel);
                }
            }
            match at.align_last(level.entry_size()).next() {
                Some(next) if next <= range.last() => at = next,
                _ => return Ok(()),
            }
        }
    }

    /// Replaces the entry for `block`, a leaf, by a table with the tiles of `plan`.
    pub(super) fn install_table(
        &mut self,
        table: Table,
        level: Level,
        block: IovaRange,
        plan: &Plan,
        leaf: LeafEntry,
    ) -> Result<(), Error<P::Error>> {
        let at = block.start();
        let changed = || Error::Changed(at);
        let below = level.below().ok_or_else(changed)?;
        let child = self.build_table(below, block, plan, leaf)?;
        let pointer = self.format.table(child, below);
        let mut known = leaf.ad_bits;

        loop {
            let Some(slot) = self.slot(table, level, at) else {
                break;
            };
            let old = slot.load(Ordering::Acquire);
            let ad_bits = self.format.ad_bits_of(old).union(known);
            let expected = LeafEntry {
                ad_bits: self.format.ad_bits_of(old),
                ..leaf
            };
            if self.format.decode(old, level) != Entry::Leaf(expected) {
                break;
            }
            if ad_bits != known {
                known = ad_bits;
                self.set_ad_bits(child, below, known);
                continue;
            }
            let order = (Ordering::AcqRel, Ordering::Relaxed);
            if slot
                .compare_exchange(old, pointer, order.0, order.1)
                .is_ok()
            {
                self.write_back(slice::from_ref(slot));
                return Ok(());
            }
        }
        self.free_subtree(child, below, TableFree::Now);
        Err(changed())
    }

    /// Builds a table of `level`, and all below it, with the tiles of `plan` for `block`.
    fn build_table(
        &mut self,
        level: Level,
        block: IovaRange,
        plan: &Plan,
        leaf: LeafEntry,
    ) -> Result<Table, Error<P::Error>> {
        let table = self.pages.alloc().map_err(Error::Pages)?;
        let mut at = block.start();

        loop {
            let tiles = plan.tiles_at(at);
            let last = if tiles.size >= level.entry_size() {
                let last = tiles.last.min(block.last());
                self.fill_entries(
                    table,
                    level,
                    (at, last),
                    leaf.tile(plan.leaf.iova, at, tiles.size),
                );
                last
            } else {
                let part = IovaRange::block(at, level.entry_size());
                let built = match level.below() {
                    Some(below) => self
                        .build_table(below, part, plan, leaf)
                        .map(|child| self.format.table(child, below)),
                    None => Err(Error::Changed(at)),
                };
                match (built, self.slot(table, level, at)) {
                    (Ok(pointer), Some(slot)) => slot.store(pointer, Ordering::Relaxed),
                    (Err(error), _) => {
                        self.free_subtree(table, level, TableFree::Now);
                        return Err(error);
                    }
                    (Ok(_), None) => {}
                }
                part.last()
            };
            match last.next().filter(|next| *next <= block.last()) {
                Some(next) => at = next,
                None => break,
            }
        }
        self.write_back_range(table, level, block);
        Ok(table)
    }

    /// Stores leaves like `first` into the entries from `ends.0` to `ends.1` of a table that the
    /// hardware does not see.
    fn fill_entries(&self, table: Table, level: Level, ends: (Iova, Iova), first: LeafEntry) {
        let indices = level.index(ends.0)..=level.index(ends.1);
        let slots = self.pages.entries(table).get(indices).unwrap_or(&[]);
        let step = first.size.bytes();
        let mut raw = self.format.leaf(first, level);

        if first.size == level.entry_size() {
            each(slots, |slot| {
                slot.store(raw, Ordering::Relaxed);
                raw = raw.wrapping_add(step);
            });
        } else {
            for run in slots.chunks(level.entries(first.size)) {
                for slot in run {
                    slot.store(raw, Ordering::Relaxed);
                }
                raw = raw.wrapping_add(step);
            }
        }
    }

    /// Frees `table` and all tables below it. Returns the AD bits of their leaves.
    ///
    /// Recurses at most once per level.
    pub(super) fn free_subtree(&mut self, table: Table, level: Level, when: TableFree) -> AdBits {
        let mut ad_bits = AdBits::NONE;

        if level == Level::ZERO {
            // Level 0 has only leaves.
            ad_bits = self.ad_bits_in(self.pages.entries(table));
        }
        for index in 0..if level == Level::ZERO { 0 } else { 512 } {
            let Some(slot) = self.pages.entries(table).get(index) else {
                break;
            };
            let raw = slot.load(Ordering::Acquire);
            match (self.format.decode(raw, level), level.below()) {
                (Entry::Table(child), Some(below)) => {
                    ad_bits = ad_bits.union(self.free_subtree(child, below, when));
                }
                (Entry::Leaf(_), _) => ad_bits = ad_bits.union(self.format.ad_bits_of(raw)),
                _ => {}
            }
        }
        match when {
            TableFree::AfterFlush => self.pages.retire(table),
            TableFree::Now => self.pages.discard(table),
        }
        ad_bits
    }

    /// Adds `ad_bits` to all leaves below `table`, which the hardware does not see.
    fn set_ad_bits(&self, table: Table, level: Level, ad_bits: AdBits) {
        let slots = self.pages.entries(table);

        for slot in slots {
            match (
                self.format.decode(slot.load(Ordering::Acquire), level),
                level.below(),
            ) {
                (Entry::Table(child), Some(below)) => self.set_ad_bits(child, below, ad_bits),
                (Entry::Leaf(_), _) => {
                    slot.fetch_or(ad_bits.bits(), Ordering::AcqRel);
                }
                _ => {}
            }
        }
        self.write_back(slots);
    }

    /// The AD bits of all entries of a leaf.
    pub(super) fn ad_bits(&self, table: Table, level: Level, leaf: IovaRange) -> AdBits {
        self.ad_bits_in(self.slots(table, level, leaf))
    }

    /// The AD bits of these entries.
    fn ad_bits_in(&self, slots: &[AtomicU64]) -> AdBits {
        let mut all = 0;

        each(slots, |slot| all |= slot.load(Ordering::Acquire));
        self.format.ad_bits_of(all)
    }
}

/// Calls `work` for each entry, eight per iteration: the loop counter would cost most of the time.
#[inline]
fn each(slots: &[AtomicU64], mut work: impl FnMut(&AtomicU64)) {
    let several = slots.chunks_exact(8);
    let rest = several.remainder();

    for slots in several {
        slots.iter().for_each(&mut work);
    }
    rest.iter().for_each(&mut work);
}
