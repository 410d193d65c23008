// SPDX-License-Identifier: GPL-2.0

//! One leaf into smaller ones, and smaller ones into one, while devices go on using them.
//!
//! Whatever an entry is to become, it is made complete out of the hardware's sight, and then put in
//! place by one 64-bit compare-and-exchange. So each address translates alike before and after
//! every single store, and the hardware needs no telling until the IOTLB is flushed:
//!
//! ```text
//! have leaf,  want leaves  here:  the entries of the run, rewritten one by one
//! have leaf,  want leaves  below: a new table, filled; then the entry leads to it
//! have table, want leaf:          the entry is the leaf; then the table is retired
//! ```
//!
//! A run changes entry by entry. Meanwhile its entries differ in the size that they say, not in
//! where they lead: each is right for the addresses that it translates.
//!
//! # Accessed and dirty
//!
//! The hardware sets these marks only where a device's table entry asks for it (dirty tracking),
//! which VFIO's containers never do. Marks that are there all the same are kept: the parts of a
//! leaf have its marks, a leaf has the marks of its parts, and a mark that appears while an entry
//! is exchanged is carried over. What can not be had while tracking is on, and is not claimed: a
//! device may note a write in a retired table, or not at all if the IOTLB holds the larger leaf as
//! dirty already. With tracking on, count everything that [`Changes::touched`] names as dirty.

use core::sync::atomic::Ordering;

use super::{
    tiling::Plan,
    Changes,
    Editor,
    Entry,
    Error,
    Format,
    Iova,
    IovaRange,
    LeafEntry,
    Level,
    PageSizes,
    Table,
    TablePages,
    Top, //
};

impl<P: TablePages, F: Format> Editor<'_, P, F> {
    /// Splits the leaf at `iova`, whole, into leaves of the largest of `sizes` that is smaller. 4K
    /// is always allowed. Nothing happens if its size is allowed, or if nothing is mapped.
    pub fn split(
        &mut self,
        iova: Iova,
        sizes: PageSizes,
    ) -> (Changes, Result<(), Error<P::Error>>) {
        let mut changes = Changes::NONE;
        let sizes = sizes.union(PageSizes::ONLY_4K);
        let result = match self.view().leaf_at(iova) {
            Some(leaf) if !sizes.allows(leaf.size()) => {
                let plan = Plan::new(self.format, leaf, leaf.range(), sizes, sizes);
                self.replace(&plan, &mut changes)
            }
            _ => Ok(()),
        };

        (changes, result)
    }

    /// Sees to it that a leaf starts at `at`, if anything is mapped there: a leaf that has `at` in
    /// its midst is replaced by the tilings of its halves, by `left` and `right`.
    pub fn split_boundary(
        &mut self,
        at: Iova,
        left: PageSizes,
        right: PageSizes,
    ) -> (Changes, Result<(), Error<P::Error>>) {
        let mut changes = Changes::NONE;
        let result = match self.view().leaf_at(at) {
            Some(leaf) if leaf.iova != at => match IovaRange::new(at, leaf.range().last()) {
                Some(half) => {
                    let plan = Plan::new(self.format, leaf, half, right, left);
                    self.replace(&plan, &mut changes)
                }
                None => Err(Error::Straddles(leaf.iova)),
            },
            _ => Ok(()),
        };

        (changes, result)
    }

    /// Sees to it that no leaf crosses the ends of `range`, and that leaves in it have sizes of
    /// `inner`. A leaf that crosses gets tiles of `outer` for what lies outside. 4K is always
    /// allowed. Leaves that are good already stay; nothing is merged.
    pub fn split_range(
        &mut self,
        range: IovaRange,
        inner: PageSizes,
        outer: PageSizes,
    ) -> (Changes, Result<(), Error<P::Error>>) {
        let mut changes = Changes::NONE;
        let inner = inner.union(PageSizes::ONLY_4K);
        let mut rest = Some(range);

        while let Some(todo) = rest {
            let Some(leaf) = self.view().leaves(todo).next() else {
                break;
            };
            let whole = leaf.range();

            if let Some(part) = whole.intersect(range) {
                if part != whole || !inner.allows(leaf.size()) {
                    let plan = Plan::new(self.format, leaf, part, inner, outer);
                    if let Err(error) = self.replace(&plan, &mut changes) {
                        return (changes, Err(error));
                    }
                }
            }
            rest = todo.behind(whole.last());
        }

        (changes, Ok(()))
    }

    /// The table of `level` through which `iova` is translated.
    pub(super) fn table_at(&self, iova: Iova, level: Level) -> Option<Table> {
        let Top {
            mut table,
            level: mut here,
        } = self.top;

        if iova > self.format.reach(here) {
            return None;
        }
        while here > level {
            let raw = self.slot(table, here, iova)?.load(Ordering::Acquire);

            match self.format.decode(raw, here) {
                Entry::Table(next) => table = next,
                _ => return None,
            }
            here = here.below()?;
        }
        (here == level).then_some(table)
    }

    /// Makes of a leaf what the plan says; all of it, or nothing.
    pub(super) fn replace(
        &mut self,
        plan: &Plan,
        changes: &mut Changes,
    ) -> Result<(), Error<P::Error>> {
        let leaf = plan.leaf;
        let (whole, level) = (leaf.range(), Level::of(leaf.size()));
        let changed = || Error::Changed(leaf.iova);
        let table = self.table_at(leaf.iova, level).ok_or_else(changed)?;
        let ad_bits = self.ad_bits(table, level, whole);
        let old = LeafEntry {
            ad_bits,
            ..leaf.entry
        };
        let mut at = leaf.iova;

        loop {
            let tiles = plan.tiles_at(at);
            let is_tile = tiles.size >= level.entry_size();
            let last = if is_tile {
                tiles.last
            } else {
                at.align_last(level.entry_size())
            };
            let part = IovaRange::new(at, last).ok_or_else(changed)?;
            let done = if is_tile {
                self.install_leaves(table, level, part, old.tile(leaf.iova, at, tiles.size))
            } else {
                self.install_table(table, level, part, plan, old)
            };

            if let Err(error) = done {
                // What was written is written back: the run is whole again. Tiles may have been
                // written up to an entry that somebody else took away; there it ends, too.
                let written = if is_tile { Some(last) } else { at.before() };
                if let Some(written) = written.and_then(|last| IovaRange::new(leaf.iova, last)) {
                    changes.add_touch(written);
                    self.install_leaf(table, level, written, self.format.leaf(old, level))?;
                }
                return Err(error);
            }
            match last.next().filter(|next| *next <= whole.last()) {
                Some(next) => at = next,
                None => break,
            }
        }
        changes.add_split(whole);
        Ok(())
    }
}
