// SPDX-License-Identifier: GPL-2.0

//! Edits, in process context, of leaves that are followed: under the lock of the tree, for the hook
//! may be at work on them.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    domain::Domain,
    entry::Block,
    follower::Follower,
    lock::Guard,
    smash::take_over,
    split::{
        large_leaf,
        make_large,
        make_small,
        make_small_or_none,
        AROUND, //
    },
    watch::{
        Standing,
        Watch, //
    },
    watches::{
        watch,
        watch_counted,
        Fit, //
    }, //
};
use crate::{
    iommu::Ready,
    pgtable::{
        blocks_of,
        ends_of,
        first_piece,
        Conversion,
        Iova,
        IovaRange,
        Leaf,
        PageSize,
        PageSizes,
        Stretch, //
    },
    policy::Rule,
    sys::{
        num::unsupported,
        sched::{
            give_way,
            rest, //
        }, //
    }, //
};

impl Domain {
    /// No leaf and no followed stretch crosses `at`, which is in one, afterwards. A block of 2M that
    /// is cut is followed no more: its leaves are small. False: a leaf is lost at `at`.
    pub(super) fn cut_followed(&mut self, at: Iova) -> Result<bool> {
        let page = IovaRange::block(at, PageSize::SIZE_4K);
        let Some(whole) = self.watches().first_in(page) else {
            return Ok(true);
        };
        let range = whole.range();
        if range.start() == at {
            return Ok(true);
        }
        let mut new = KVVec::with_capacity(2, GFP_KERNEL_ACCOUNT)?;
        let halves = [
            at.before()
                .and_then(|last| IovaRange::new(range.start(), last)),
            range.from(at),
        ];
        for range in halves.into_iter().flatten() {
            let phys = whole.phys_at(range.start()).ok_or(EFAULT)?;
            // There are as many of each frame as before.
            if let Some(half) = watch(Stretch { range, phys }, whole.owner())? {
                new.push(half, GFP_KERNEL_ACCOUNT)?;
            }
        }
        let table = self.table().ok_or_else(unsupported)?;
        let cut = Ready::new(table.node()).edit(|memory| {
            let guard = &mut Guard::lock();
            let (_, cut) = table.edit_with(memory, |editor| editor.cut(at, AROUND, AROUND));
            cut?;
            // With small leaves nothing is lost any more. It may have been before.
            if table.view().leaf_at(at).is_none() {
                return Ok(false);
            }
            // Nor is the block merged again: the hook has the halves.
            let noted = *guard.marks(whole);
            for half in &new {
                *guard.marks(half) = noted;
                take_over(guard, half);
            }
            guard.marks(whole).hold();
            Ok(true)
        })?;
        if cut {
            self.watches_mut().replace(range, new);
        }
        Ok(cut)
    }

    /// Gives a block, mapped as a whole, one leaf if the RMP allows it, and follows it.
    pub(super) fn rejoin_followed(
        &mut self,
        stretch: Stretch,
        rule: Rule,
        follower: &Arc<Follower>,
    ) -> Result {
        let block = stretch.range;
        if self.watches().first_in(block).is_some() {
            // It is whole as a whole, and small since the RMP wants it.
            return Ok(());
        }
        let owner = self.owner(rule, follower)?;
        let Some(new) = watch_counted(stretch, &owner)? else {
            return Ok(());
        };
        self.watches_mut().insert(new);
        if let Some(watch) = self.watches().first_in(block) {
            let fit = Fit::of(Block::of(stretch.phys));
            let mut guard = Guard::lock();
            let hit = guard.marks(watch).standing == Standing::Hit;

            guard.go_live(watch);
            if hit || fit == Fit::SmallForNow {
                guard.doubt(watch);
            } else if fit == Fit::Any {
                make_large(&mut guard, watch, block);
            }
        }
        Ok(())
    }

    /// No leaf and no followed stretch crosses the ends of `range` afterwards. What has to be unmapped,
    /// if it has to be, is then followed as a whole. False: as for [`Domain::cut_followed`].
    pub(super) fn cut_ends_live(&mut self, range: IovaRange) -> Result<bool> {
        for at in ends_of(range) {
            let page = IovaRange::block(at, PageSize::SIZE_4K);
            if self.watches().first_in(page).is_none() {
                // It is nobody else's.
                let table = self.table().ok_or_else(unsupported)?;
                table.edit(|editor| editor.cut(at, AROUND, AROUND))?;
            } else if !self.cut_followed(at)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Splits the leaves of `range` that begin to be followed, and disagree with the RMP.
    pub(crate) fn mend(&self, range: IovaRange) {
        self.mend_with(range, |_, _, _| {});
    }

    /// Splits the followed leaves that disagree with the RMP, for the hook missed a call; and says so.
    /// What it did not see become whole is to be looked at, too.
    pub(crate) fn mend_missed(&self) {
        for watch in self.watches().overlapping(IovaRange::ALL) {
            if watch.merges() {
                Guard::lock().doubt(watch);
            }
        }
        self.mend_with(IovaRange::ALL, |watch, leaf, block| {
            // It is not just about to be smashed: then the hook would have split the leaf.
            if block.is_broken() {
                watch.follower().found_mismatch(leaf.into());
            }
        });
    }

    /// Splits the leaves of followed stretches of `range` that disagree with the RMP, or are about to;
    /// of each `note` is told before, with the lock held.
    fn mend_with(&self, range: IovaRange, note: impl Fn(&Watch, &Leaf, Block)) {
        let Some(table) = self.table() else {
            return;
        };

        let mut ready = Ready::new(table.node());

        for watch in self.watches().overlapping(range) {
            // Blocks at the ends may lie in the range in part only.
            let blocks = range
                .hull(IovaRange::block(range.start(), PageSize::SIZE_2M))
                .hull(IovaRange::block(range.last(), PageSize::SIZE_2M));
            let Some(blocks) = blocks.intersect(watch.range()) else {
                continue;
            };
            for block in blocks_of(blocks) {
                rest();
                // What becomes large meanwhile is whole.
                if large_leaf(&table, block).is_none() {
                    continue;
                }
                let Some(frames) = watch.phys_at(block.start()).map(Block::of) else {
                    continue;
                };
                let fit = Fit::of(frames);
                if fit == Fit::Any {
                    continue;
                }
                let mut noted = false;
                let made = ready.edit(|memory| {
                    let guard = &mut Guard::lock();
                    if let Some(leaf) = large_leaf(&table, block).filter(|_| !noted) {
                        note(watch, &leaf, frames);
                        noted = true;
                    }
                    make_small(guard, watch, block, memory)
                });
                let mut guard = Guard::lock();
                if made.is_err() {
                    make_small_or_none(&mut guard, watch, block);
                }
                if fit == Fit::SmallForNow {
                    guard.doubt(watch);
                }
            }
        }
    }

    /// Gives `part`, of one segment, leaves of `sizes`, none larger than it was or than 2M, while the
    /// hook may be at work; of 4K where the RMP wants it, if `follow`.
    pub(crate) fn convert_live(&self, part: IovaRange, sizes: PageSizes, follow: bool) -> Result {
        let table = self.table().ok_or_else(unsupported)?;
        let mut ready = Ready::new(table.node());
        let mut left = Some(part);

        while let Some(todo) = left {
            let Some(leaf) = table.view().leaves(todo).next() else {
                break;
            };
            let todo = todo.from(leaf.iova).unwrap_or(todo);
            let piece = first_piece(todo, PageSize::SIZE_2M);
            left = todo.behind(piece.last());
            let at = leaf.phys().at(leaf.iova, piece.start());
            let stretch = Stretch {
                range: piece,
                phys: at,
            };
            let whole = stretch.blocks().is_some();
            give_way()?;
            let frames = Block::of(at);
            let generation = Guard::lock().generation(frames);
            let followed = follow && whole;
            let mut fit = if followed { Fit::of(frames) } else { Fit::Any };

            ready.edit(|memory| {
                let guard = &mut Guard::lock();
                if followed && guard.generation(frames) != generation {
                    fit = Fit::under(guard, frames);
                }
                let sizes = if fit == Fit::Any {
                    sizes
                } else {
                    PageSizes::ONLY_4K
                };
                let leaf = table.view().leaf_at(piece.start());
                if leaf.is_some_and(|leaf| leaf.range().covers(piece) && sizes.allows(leaf.size()))
                {
                    return Ok(());
                }
                let (_, cut) = table.edit_with(memory, |editor| editor.carve(piece, sizes, AROUND));
                cut?;
                let mut conversion = Conversion::new(piece, sizes.up_to(PageSize::SIZE_2M));
                let (_, done) = table.edit_with(memory, |editor| conversion.step(editor, u32::MAX));
                done.map(|_| ())
            })?;
            let watch = self.watches().first_in(piece);
            if let Some(watch) = watch.filter(|_| fit == Fit::SmallForNow) {
                Guard::lock().doubt(watch);
            }
        }
        Ok(())
    }
}
