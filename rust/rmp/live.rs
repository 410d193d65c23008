// SPDX-License-Identifier: GPL-2.0

//! Edits of followed leaves in process context. They take the rmap's lock, because the hook may
//! edit the same leaves.

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
        merge_block,
        split_block,
        split_block_or_unmap,
        OUTER_SIZES, //
    },
    watch::{
        Watch,
        WatchState, //
    },
    watches::{
        watch,
        watch_counted,
        Fit, //
    }, //
};
use crate::{
    iommu::Prealloc,
    pgtable::{
        blocks_of,
        ends_of,
        first_piece,
        ContigRun,
        Conversion,
        Iova,
        IovaRange,
        Leaf,
        PageSize,
        PageSizes, //
    },
    policy::Rule,
    sys::{
        num::unsupported,
        sched::{
            cond_resched,
            cond_resched_killable, //
        }, //
    }, //
};

impl Domain {
    /// Splits the watch that contains `at`, and the leaf there. A 2M block that is split is not
    /// followed any more: its leaves are small.
    ///
    /// Returns `false` if the leaf at `at` is lost. Sleeps. Fails with `ENOMEM`; nothing has
    /// changed then.
    pub(super) fn split_followed_at(&mut self, at: Iova) -> Result<bool> {
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
            // No need to count: each frame has as many watches as before.
            if let Some(half) = watch(ContigRun { range, phys }, whole.owner())? {
                new.push(half, GFP_KERNEL_ACCOUNT)?;
            }
        }
        let table = self.table().ok_or_else(unsupported)?;
        let cut = Prealloc::new(table.node()).edit(|source| {
            let guard = &mut Guard::lock();
            let (_, cut) = table.edit_with(source, |editor| {
                editor.split_boundary(at, OUTER_SIZES, OUTER_SIZES)
            });
            cut?;
            // The leaf may have been lost before the lock was taken. With small leaves it cannot be
            // lost later.
            if table.view().leaf_at(at).is_none() {
                return Ok(false);
            }
            // The block is not merged again: the hook sees the halves only.
            let noted = *guard.marks(whole);
            for half in &new {
                *guard.marks(half) = noted;
                take_over(guard, half);
            }
            guard.marks(whole).set_pending();
            Ok(true)
        })?;
        if cut {
            self.watches_mut().replace(range, new);
        }
        Ok(cut)
    }

    /// Merges `contig`, a mapped block, if the RMP allows it, and follows it. Sleeps. Fails with
    /// `ENOMEM` and `EMLINK`.
    pub(super) fn try_merge_followed(
        &mut self,
        contig: ContigRun,
        rule: Rule,
        follower: &Arc<Follower>,
    ) -> Result {
        let block = contig.range;
        if self.watches().first_in(block).is_some() {
            // It is followed as a whole already; small leaves are what the RMP wants.
            return Ok(());
        }
        let owner = self.owner(rule, follower)?;
        let Some(new) = watch_counted(contig, &owner)? else {
            return Ok(());
        };
        self.watches_mut().insert(new);
        if let Some(watch) = self.watches().first_in(block) {
            let fit = Fit::of(Block::of(contig.phys));
            let mut guard = Guard::lock();
            let hit = guard.marks(watch).state == WatchState::Hit;

            guard.go_live(watch);
            if hit || fit == Fit::SmallForNow {
                guard.set_recheck(watch);
            } else if fit == Fit::Any {
                merge_block(&mut guard, watch, block);
            }
        }
        Ok(())
    }

    /// Splits leaves and watches at the ends of `range`. If the hook has to unmap a leaf of the
    /// range later, that leaf lies in the range. Returns `false` as [`Domain::split_followed_at`].
    /// Sleeps. Fails with `ENOMEM`.
    pub(super) fn split_boundaries_live(&mut self, range: IovaRange) -> Result<bool> {
        for at in ends_of(range) {
            let page = IovaRange::block(at, PageSize::SIZE_4K);
            if self.watches().first_in(page).is_none() {
                // The leaf is not followed: the hook does not edit it.
                let table = self.table().ok_or_else(unsupported)?;
                table.edit(|editor| editor.split_boundary(at, OUTER_SIZES, OUTER_SIZES))?;
            } else if !self.split_followed_at(at)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Splits the leaves of `range` that disagree with the RMP, after they got watches. Sleeps.
    pub(crate) fn split_mismatched(&self, range: IovaRange) {
        self.split_mismatched_with(range, |_, _, _| {});
    }

    /// Splits the leaves that disagree with the RMP after a missed call, and reports them. Blocks
    /// that may have become whole are marked for recheck. Sleeps.
    pub(crate) fn split_mismatched_missed(&self) {
        for watch in self.watches().overlapping(IovaRange::ALL) {
            if watch.merges() {
                Guard::lock().set_recheck(watch);
            }
        }
        self.split_mismatched_with(IovaRange::ALL, |watch, leaf, block| {
            // The RMP has changed already. Before a change the hook would have split the leaf.
            if block.is_broken() {
                watch.follower().report_mismatch(leaf.into());
            }
        });
    }

    /// Splits the followed leaves of `range` that disagree with the RMP or are about to. Calls
    /// `note` before each split, under the rmap's lock.
    fn split_mismatched_with(&self, range: IovaRange, note: impl Fn(&Watch, &Leaf, Block)) {
        let Some(table) = self.table() else {
            return;
        };

        let mut ready = Prealloc::new(table.node());

        for watch in self.watches().overlapping(range) {
            // The blocks at the ends may be only partly in the range.
            let blocks = range
                .hull(IovaRange::block(range.start(), PageSize::SIZE_2M))
                .hull(IovaRange::block(range.last(), PageSize::SIZE_2M));
            let Some(blocks) = blocks.intersect(watch.range()) else {
                continue;
            };
            for block in blocks_of(blocks) {
                cond_resched();
                // A leaf that is merged meanwhile agrees with the RMP.
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
                let made = ready.edit(|source| {
                    let guard = &mut Guard::lock();
                    if let Some(leaf) = large_leaf(&table, block).filter(|_| !noted) {
                        note(watch, &leaf, frames);
                        noted = true;
                    }
                    split_block(guard, watch, block, source)
                });
                let mut guard = Guard::lock();
                if made.is_err() {
                    split_block_or_unmap(&mut guard, watch, block);
                }
                if fit == Fit::SmallForNow {
                    guard.set_recheck(watch);
                }
            }
        }
    }

    /// Gives `part`, of one segment, leaves of `sizes` while the hook may edit them. No leaf gets
    /// larger than before, or than 2M. `follow`: blocks whose RMP entries are 4K get 4K leaves.
    ///
    /// Sleeps. Fails with `ENOMEM`, and with `EINTR` on a fatal signal.
    pub(crate) fn convert_live(&self, part: IovaRange, sizes: PageSizes, follow: bool) -> Result {
        let table = self.table().ok_or_else(unsupported)?;
        let mut ready = Prealloc::new(table.node());
        let mut left = Some(part);

        while let Some(todo) = left {
            let Some(leaf) = table.view().leaves(todo).next() else {
                break;
            };
            let todo = todo.from(leaf.iova).unwrap_or(todo);
            let piece = first_piece(todo, PageSize::SIZE_2M);
            left = todo.behind(piece.last());
            let at = leaf.phys().at(leaf.iova, piece.start());
            let contig = ContigRun {
                range: piece,
                phys: at,
            };
            let whole = contig.blocks().is_some();
            cond_resched_killable()?;
            let frames = Block::of(at);
            let generation = Guard::lock().generation(frames);
            let followed = follow && whole;
            let mut fit = if followed { Fit::of(frames) } else { Fit::Any };

            ready.edit(|source| {
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
                let (_, cut) = table.edit_with(source, |editor| {
                    editor.split_range(piece, sizes, OUTER_SIZES)
                });
                cut?;
                let mut conversion = Conversion::new(piece, sizes.up_to(PageSize::SIZE_2M));
                let (_, done) = table.edit_with(source, |editor| conversion.step(editor, u32::MAX));
                done.map(|_| ())
            })?;
            let watch = self.watches().first_in(piece);
            if let Some(watch) = watch.filter(|_| fit == Fit::SmallForNow) {
                Guard::lock().set_recheck(watch);
            }
        }
        Ok(())
    }
}
