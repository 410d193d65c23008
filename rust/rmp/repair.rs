// SPDX-License-Identifier: GPL-2.0

//! What the hook leaves to process context: lost leaves, and blocks that became whole page by page.

use kernel::prelude::*;

use super::{
    domain::Domain,
    entry::Block,
    follower::count,
    lock::Guard,
    split::merge_block,
    work::work_later, //
};
use crate::{
    iommu::Access,
    pgtable::{
        blocks_of,
        IovaRange,
        Leaf,
        PageSize,
        PageSizes,
        Phys, //
    },
    sys::{
        num::unsupported,
        sched::cond_resched,
        testing::{
            step,
            Step, //
        },
        trace, //
    }, //
};

impl Domain {
    /// Merges the blocks of watches that are marked for recheck, where the RMP allows it. Sleeps.
    pub(crate) fn merge_rechecked(&self) {
        for watch in self.watches().overlapping(IovaRange::ALL) {
            {
                let mut guard = Guard::lock();
                let marks = guard.marks(watch);
                if !marks.recheck {
                    continue;
                }
                if marks.is_pending() || marks.lost {
                    // Try again when all leaves are there.
                    work_later();
                    continue;
                }
                marks.recheck = false;
            }
            for block in blocks_of(watch.range()) {
                cond_resched();
                let small = |leaf: Leaf| leaf.size() < PageSize::SIZE_2M;
                let is_small = self
                    .table()
                    .and_then(|table| table.view().leaf_at(block.start()))
                    .is_some_and(small);
                let Some(at) = watch.phys_at(block.start()).filter(|_| is_small) else {
                    continue;
                };
                step(Step::MergeBegins);
                let frames = Block::of(at);
                let generation = Guard::lock().generation(frames);
                let broken = frames.is_broken();
                step(Step::MergeLooked);
                let mut guard = Guard::lock();
                if guard.generation(frames) != generation || guard.is_in_transit(frames) {
                    // A call came in between: try again later.
                    guard.set_recheck(watch);
                } else if !broken {
                    merge_block(&mut guard, watch, block);
                }
            }
        }
    }

    /// Maps lost leaves again, as 4K leaves. Returns whether all are mapped. Sleeps.
    pub(crate) fn repair(&mut self, access_of: impl Fn(IovaRange) -> Option<Access>) -> bool {
        let mut well = true;
        let mut next = Some(IovaRange::ALL);

        while let Some(todo) = next {
            let Some((range, phys, lost)) = self.watches().first_in(todo).map(|watch| {
                // A leaf that is lost from now on sets the mark again.
                let lost = core::mem::take(&mut Guard::lock().marks(watch).lost);
                (watch.range(), watch.phys_at(watch.range().start()), lost)
            }) else {
                break;
            };
            next = todo.behind(range.last());
            let Some(phys) = phys.filter(|_| lost) else {
                continue;
            };
            let filled = access_of(range).map(|access| self.fill_holes(range, phys, access));
            if !matches!(filled, Some(Ok(()))) {
                well = false;
                if let Some(watch) = self.watches().first_in(range) {
                    Guard::lock().marks(watch).lost = true;
                }
            }
        }
        well
    }

    fn fill_holes(&mut self, range: IovaRange, phys: Phys, access: Access) -> Result {
        let mut left = Some(range);

        while let Some(todo) = left {
            let leaf = self
                .table()
                .ok_or_else(unsupported)?
                .view()
                .leaves(todo)
                .next();
            let (hole, next) = match leaf {
                Some(leaf) => (
                    leaf.iova
                        .before()
                        .and_then(|last| IovaRange::new(todo.start(), last)),
                    leaf.range().last(),
                ),
                None => (Some(todo), todo.last()),
            };
            if let Some(hole) = hole {
                // Hole by hole: each leaf that returns is useful, even if a later one fails.
                let at = phys.at(range.start(), hole.start());
                self.map(hole, at, access, PageSizes::ONLY_4K)?;
                if self.is_tracking() {
                    // The leaf's dirty bit is lost.
                    self.note_written(hole);
                }
                if let Some(watch) = self.watches().first_in(range) {
                    count(&watch.stats().repairs, 1);
                    trace::repair(watch.follower().id, hole.start(), hole.bytes().unwrap_or(0));
                }
            }
            left = todo.behind(next);
            cond_resched();
        }
        Ok(())
    }
}
