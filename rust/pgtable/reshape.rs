// SPDX-License-Identifier: GPL-2.0

//! Splits and merges leaves while devices use them.
//!
//! A new entry or a new subtree is built where the hardware does not see it, and then installed by
//! a 64-bit compare-and-exchange. Each address translates the same before and after every store, so
//! the IOTLB flush can wait until the end of the edit:
//!
//! ```text
//! have leaf,  want leaves of this level: rewrite the entries one by one
//! have leaf,  want smaller leaves:       fill a new table; then store the pointer to it
//! have table, want leaf:                 store the leaf; then retire the table
//! ```
//!
//! While the entries of a large leaf are rewritten they differ in size but not in address: each is
//! correct for the addresses that it translates.
//!
//! # Accessed and dirty
//!
//! The hardware sets AD bits if the device table entry enables dirty tracking. AD bits that are set
//! are kept: split leaves inherit them, a merged leaf has those of its parts, and a bit that the
//! hardware sets during the exchange is carried over.
//!
//! A device may still set a bit in a retired table, or none if the IOTLB holds the larger leaf as
//! dirty. While dirty tracking is enabled, the leaves that an edit makes are dirty
//! ([`Editor::tracked`]).

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
    /// Splits the whole leaf at `iova` into leaves of the largest size in `sizes` that is smaller
    /// than it. 4K is always allowed. Does nothing if the size of the leaf is allowed, or if
    /// nothing is mapped.
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

    /// Splits the leaf that crosses `at`, if there is one. Its parts below and above `at` get
    /// leaves of `left` and `right`. 4K is always allowed.
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

    /// Splits leaves such that none crosses an end of `range` and those in the range have a size of
    /// `inner`. The parts of them outside the range get leaves of `outer`. 4K is always allowed.
    /// Nothing is merged.
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

    /// The table of `level` that translates `iova`.
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

    /// Replaces a leaf as `plan` says. All or nothing.
    pub(super) fn replace(
        &mut self,
        plan: &Plan,
        changes: &mut Changes,
    ) -> Result<(), Error<P::Error>> {
        let leaf = plan.leaf;
        let (whole, level) = (leaf.range(), Level::of(leaf.size()));
        let changed = || Error::Changed(leaf.iova);
        let table = self.table_at(leaf.iova, level).ok_or_else(changed)?;
        let ad_bits = self.ad_bits(table, level, whole).union(self.born);
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
                // Restore what was written. `install_leaves` may have written entries up to one
                // that changed; restoring stops there, too.
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
