// SPDX-License-Identifier: GPL-2.0

//! Reads, clears and sets the dirty bits of leaves.
//!
//! The hardware sets the D bit of a leaf when a device writes through it and the IOTLB does not hold it as dirty
//! already. So a bit that was cleared is not set again before the IOTLB is flushed. Clear, flush,
//! and only then report what was dirty. A write before the flush goes to a leaf that is reported, before
//! anybody reads the memory; a write after it sets the bit again.
//!
//! A leaf that is a run of entries is dirty if any of them is. Which of them the hardware sets D
//! in is not defined.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use super::{
    AdBits,
    Editor,
    Entry,
    Format,
    Iova,
    IovaRange,
    Level,
    Table,
    TablePages,
    Top, //
};

impl<P: TablePages, F: Format> Editor<'_, P, F> {
    /// Calls `each` with the parts of `range` that are in dirty leaves, in rising order. Contiguous parts
    /// in a table are one.
    pub fn dirty(&self, range: IovaRange, each: impl FnMut(IovaRange)) {
        self.visit_dirty(range, each, |_, _| {});
    }

    /// The same, and clears their dirty bits. Returns where: flush the IOTLB there before the parts are
    /// reported.
    #[must_use = "the IOTLB is to be flushed there"]
    pub fn take_dirty(&self, range: IovaRange, each: impl FnMut(IovaRange)) -> Option<IovaRange> {
        let dirty = self.format.dirty_bit().bits();
        let mut touched: Option<IovaRange> = None;

        self.visit_dirty(range, each, |slots, leaf| {
            for slot in slots {
                if slot.load(Ordering::Relaxed) & dirty != 0 {
                    slot.fetch_and(!dirty, Ordering::AcqRel);
                }
            }
            self.write_back(slots);
            touched = Some(touched.map_or(leaf, |before| before.hull(leaf)));
        });
        touched
    }

    /// Sets the dirty bits of all leaves with an address in `range`. No flush is needed: for leaves that
    /// the IOTLB holds as clean the hardware sets D, too.
    pub fn make_dirty(&self, range: IovaRange) {
        let dirty = self.format.dirty_bit().bits();

        self.visit(
            range,
            |_| true,
            |slots, _, _| {
                if let Some(slot) = slots.first() {
                    slot.fetch_or(dirty, Ordering::AcqRel);
                    self.write_back(core::slice::from_ref(slot));
                }
            },
        );
    }

    /// Removes the permission to write from all leaves with an address in `range`, or with `allow` gives
    /// it to them. After a flush of the IOTLB their D bits do not change any more.
    pub fn allow_writes(&self, range: IovaRange, allow: bool) {
        let write = self.format.write_permission();

        self.visit(
            range,
            |_| true,
            |slots, _, _| {
                for slot in slots {
                    if allow {
                        slot.fetch_or(write, Ordering::AcqRel);
                    } else {
                        slot.fetch_and(!write, Ordering::AcqRel);
                    }
                }
                self.write_back(slots);
            },
        );
    }

    /// Calls `work` with the entries of each dirty leaf, and what it covers; then `each`.
    fn visit_dirty(
        &self,
        range: IovaRange,
        mut each: impl FnMut(IovaRange),
        mut work: impl FnMut(&[AtomicU64], IovaRange),
    ) {
        let dirty = self.format.dirty_bit().bits();
        let mut held: Option<IovaRange> = None;

        self.visit(
            range,
            |raw| raw & dirty != 0,
            |slots, ad_bits, leaf| {
                if ad_bits.bits() & dirty == 0 {
                    return;
                }
                work(slots, leaf);
                let Some(part) = leaf.intersect(range) else {
                    return;
                };
                held = match held {
                    Some(before) if before.last().next() == Some(part.start()) => {
                        Some(before.hull(part))
                    }
                    before => {
                        if let Some(before) = before {
                            each(before);
                        }
                        Some(part)
                    }
                };
            },
        );
        if let Some(last) = held {
            each(last);
        }
    }

    /// Calls `work` with the entries of each leaf that holds any address of `range`, their A/D
    /// bits together, and what it covers. Of level 0 entries of which `wanted` does not approve are not
    /// looked at: with a leaf's first entry of which it approves all of the leaf is.
    fn visit(
        &self,
        range: IovaRange,
        wanted: impl Fn(u64) -> bool,
        mut work: impl FnMut(&[AtomicU64], AdBits, IovaRange),
    ) {
        // The entry of a leaf that is wanted may be outside of the range.
        let leaf_at = |iova| self.view().leaf_at(iova).map(|leaf| leaf.range());
        let start = leaf_at(range.start()).map_or(range.start(), |leaf| leaf.start());
        let last = leaf_at(range.last()).map_or(range.last(), |leaf| leaf.last());
        // Above what the top covers nothing is mapped, and indices would be taken modulo.
        let last = last.min(self.format.reach(self.top.level));
        let mut next = Some(start);

        while let Some(at) = next.filter(|at| *at <= last) {
            let (table, level) = self.lowest_table(at);
            next = self.visit_table(table, level, (at, last), &wanted, &mut work);
        }
    }

    /// The lowest table through which `at` is translated, or would be.
    fn lowest_table(&self, at: Iova) -> (Table, Level) {
        let Top {
            mut table,
            mut level,
        } = self.top;

        while let (Some(slot), Some(below)) = (self.slot(table, level, at), level.below()) {
            match self.format.decode(slot.load(Ordering::Acquire), level) {
                Entry::Table(child) => (table, level) = (child, below),
                _ => break,
            }
        }
        (table, level)
    }

    /// The part of [`Editor::visit`] from `ends.0` on that is in one table, up to an entry that leads
    /// to another one, or to `ends.1`. Returns where to go on.
    fn visit_table(
        &self,
        table: Table,
        level: Level,
        ends: (Iova, Iova),
        wanted: &impl Fn(u64) -> bool,
        work: &mut impl FnMut(&[AtomicU64], AdBits, IovaRange),
    ) -> Option<Iova> {
        let last = ends.1.min(level.table_last(ends.0));
        let mut at = ends.0;

        while at <= last {
            let mut raw = self.slot(table, level, at)?.load(Ordering::Acquire);
            if level == Level::ZERO && !wanted(raw) {
                at = self.pass_unwanted(table, at, last, wanted)?;
                if at > last {
                    break;
                }
                raw = self.slot(table, level, at)?.load(Ordering::Acquire);
            }
            let end = match self.format.decode(raw, level) {
                Entry::Table(_) => return Some(at),
                Entry::Absent => at.align_last(level.entry_size()),
                Entry::Leaf(leaf) => {
                    let whole = IovaRange::block(at, leaf.size);
                    let slots = self.slots(table, level, whole);
                    work(slots, self.ad_bits(table, level, whole), whole);
                    whole.last()
                }
            };
            at = end.next()?;
        }
        Some(at)
    }

    /// The first address from `at` on, in a table of level 0, whose entry is wanted; or the first
    /// behind `last`.
    fn pass_unwanted(
        &self,
        table: Table,
        at: Iova,
        last: Iova,
        wanted: &impl Fn(u64) -> bool,
    ) -> Option<Iova> {
        const SEVERAL: usize = 8;
        let level = Level::ZERO;
        let indices = level.index(at)..=level.index(last);
        let slots = self.pages.entries(table).get(indices)?;
        let several = slots.chunks(SEVERAL);
        // Whether one is wanted is asked of all together first: mostly none is.
        let quiet = several
            .take_while(|some| {
                let all = some
                    .iter()
                    .fold(0, |all, slot| all | slot.load(Ordering::Relaxed));
                !wanted(all)
            })
            .count();
        let passed = quiet.saturating_mul(SEVERAL).min(slots.len());
        let more = slots
            .get(passed..)?
            .iter()
            .take_while(|slot| !wanted(slot.load(Ordering::Relaxed)))
            .count();
        let entries = u64::try_from(passed.saturating_add(more)).ok()?;

        at.align_down(level.entry_size())
            .checked_add(entries.wrapping_mul(level.entry_size().bytes()))
    }
}
