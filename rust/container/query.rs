// SPDX-License-Identifier: GPL-2.0

//! Queries: reads leaves from the page table, and merges equal adjacent ones to runs.

use kernel::prelude::*;

use super::State;
use crate::{
    iommu::PIECE,
    pgtable::{
        blocks_of,
        first_piece,
        Format,
        Iova,
        IovaRange,
        Leaf,
        LeafRun,
        PageSize, //
    },
    rmp::{
        Block,
        Guard,
        RmpEntry,
        RmpReader, //
    },
    sys::{
        bindings,
        num::{
            index_nospec,
            unsupported, //
        },
        sched::{
            cond_resched,
            cond_resched_killable, //
        }, //
    }, //
};

/// What a query reports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All leaves.
    Leaves,
    /// Leaves that disagree with the RMP.
    Mismatches,
    /// All leaves, and private pages.
    State,
}

/// Options of a query.
#[derive(Clone, Copy)]
pub(crate) struct QueryOptions {
    /// What to report.
    pub(crate) wanted: Wanted,
    /// Also report the RMP entries under each leaf.
    pub(crate) rmp: bool,
    /// Count mismatches, and notify the VMM of them.
    pub(crate) notify: bool,
}

/// A reported run: equal adjacent leaves, or private pages.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// The IOVA range.
    pub(crate) range: IovaRange,
    /// The size of each leaf; `None` for private pages.
    pub(crate) size: Option<PageSize>,
    /// `VFIO_PGSIZE_RUN_*`.
    pub(crate) flags: u32,
}

impl State {
    /// Reports `range` in `domain`, an index, up to the capacity of `runs`. Returns the part of the
    /// range that is left.
    ///
    /// Sleeps. Fails with `ENOENT` if there is no such domain; `EOPNOTSUPP` if its page table
    /// cannot be read, or if the RMP is asked for and there is none; `EINTR` on a fatal signal.
    pub(crate) fn query(
        &self,
        domain: usize,
        range: IovaRange,
        options: QueryOptions,
        runs: &mut KVVec<Run>,
    ) -> Result<Option<IovaRange>> {
        let domain = index_nospec(domain, self.domains.len()).ok_or(ENOENT)?;
        let table = self.domains.get(domain).ok_or(ENOENT)?;
        let view = table.table().ok_or_else(unsupported)?.view();
        let format = view.format();
        let QueryOptions { wanted, rmp, .. } = options;
        let audit = wanted == Wanted::Mismatches;
        let alone = |leaf: Leaf| {
            let run = Run::new(format, leaf.into());
            let more = if rmp { rmp_flags(&leaf) } else { 0 };
            let flags = run.flags | more;
            Run { flags, ..run }
        };

        // While the container follows, the RMP can be read.
        let _reader = match (audit || rmp) && self.hook.is_none() {
            true => Some(RmpReader::new()?),
            false => None,
        };
        // Nothing is mapped outside of mappings.
        for mapping in self.mappings.overlapping(range) {
            let with_private = wanted == Wanted::State && mapping.stateful;
            let mut left = mapping.range.intersect(range);

            while let Some(todo) = left {
                // Skip large holes at once.
                let mapped = table.skip_holes(todo);
                let before = mapped.map_or(Some(todo.last()), |mapped| mapped.start().before());
                if let Some(gap) = gap(Some(todo.start()), before) {
                    if with_private && !append(runs, Run::private(gap)) {
                        return Ok(range.from(gap.start()));
                    }
                }
                let Some(todo) = mapped else {
                    break;
                };
                let piece = first_piece(todo, PIECE);
                let audited = audit.then(|| view.leaves(piece));
                // Equal leaves may have different RMP entries.
                let each = (!audit && rmp).then(|| view.leaves(piece).map(alone));
                let joined = (!audit && !rmp)
                    .then(|| view.leaf_runs(piece).map(|run| Run::new(format, run)));
                let found =
                    Iterator::chain(each.into_iter().flatten(), joined.into_iter().flatten());
                let wrong = |leaf: &Leaf| disagrees(leaf, || view.leaf_at(leaf.iova));
                let mut next = Some(todo.start());

                for leaf in audited.into_iter().flatten().filter(wrong) {
                    if !append(runs, alone(leaf)) {
                        return Ok(range.from(leaf.iova));
                    }
                    if options.notify {
                        self.follower.report_mismatch((&leaf).into());
                    }
                }
                for run in found {
                    if let Some(gap) = gap(next, run.range.start().before()) {
                        if with_private && !append(runs, Run::private(gap)) {
                            return Ok(range.from(gap.start()));
                        }
                    }
                    if !append(runs, run) {
                        return Ok(range.from(run.range.start()));
                    }
                    next = run.range.last().next();
                }
                // A leaf that crosses the end of the piece was reported.
                let seen = view.leaf_at(piece.last()).map(|leaf| leaf.range().last());
                if let Some(gap) = gap(next, Some(piece.last())) {
                    if with_private && !append(runs, Run::private(gap)) {
                        return Ok(range.from(gap.start()));
                    }
                }
                left = todo.behind(seen.unwrap_or(piece.last()));
                cond_resched_killable()?;
            }
        }
        Ok(None)
    }
}

impl Run {
    const fn private(range: IovaRange) -> Self {
        Self {
            range,
            size: None,
            flags: bindings::VFIO_PGSIZE_RUN_PRIVATE,
        }
    }

    fn new(format: impl Format, run: LeafRun) -> Self {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };

        Self {
            range: run.range,
            size: Some(run.size),
            flags: flag(format.readable(run.attrs), bindings::VFIO_PGSIZE_RUN_READ)
                | flag(format.writable(run.attrs), bindings::VFIO_PGSIZE_RUN_WRITE),
        }
    }
}

/// The RMP flags (`VFIO_PGSIZE_RUN_*`) of the frames under a leaf, combined.
fn rmp_flags(leaf: &Leaf) -> u32 {
    const BROKEN: u32 = bindings::VFIO_PGSIZE_RUN_RMP_4K | bindings::VFIO_PGSIZE_RUN_ASSIGNED;
    let mut flags = 0;
    let mut left = Some(leaf.range());

    while let Some(todo) = left {
        let block_last = todo.start().align_last(PageSize::SIZE_2M);
        let entry = RmpEntry::of(leaf.phys().at(leaf.iova, todo.start()));
        let (said, last) = match entry {
            // No entry, or SNP is off.
            None => (0, block_last),
            Some(entry) if entry.large => (bindings::VFIO_PGSIZE_RUN_RMP_2M, block_last),
            // All flags are set: skip the rest of the block.
            Some(entry) if entry.assigned => (BROKEN, block_last),
            Some(_) => (
                bindings::VFIO_PGSIZE_RUN_RMP_4K,
                todo.start().align_last(PageSize::SIZE_4K),
            ),
        };

        flags |= said;
        if entry.is_some_and(|entry| entry.assigned) {
            flags |= bindings::VFIO_PGSIZE_RUN_ASSIGNED;
        }
        left = todo.behind(last);
        cond_resched();
    }
    flags
}

/// From `next` to `last`; `None` if that is empty.
fn gap(next: Option<Iova>, last: Option<Iova>) -> Option<IovaRange> {
    IovaRange::new(next?, last?)
}

/// Whether `leaf` disagrees with the RMP. `now` reads the leaf again.
fn disagrees(leaf: &Leaf, now: impl Fn() -> Option<Leaf>) -> bool {
    let is_broken = |block: IovaRange| {
        let frames = Block::of(leaf.phys().at(leaf.iova, block.start()));
        let same = |now: Leaf| now.range() == leaf.range();

        if !frames.is_broken() {
            return false;
        }
        // The hook may have split the leaf since, before the RMP changed.
        let _guard = Guard::lock();
        now().is_some_and(same) && frames.is_broken()
    };

    leaf.size() >= PageSize::SIZE_2M && blocks_of(leaf.range()).any(is_broken)
}

/// Appends `run`. Extends the last run if it is adjacent and equal. Returns `false` if it does not
/// fit.
fn append(runs: &mut KVVec<Run>, run: Run) -> bool {
    match runs.last_mut() {
        Some(last)
            if last.range.last().next() == Some(run.range.start())
                && last.size == run.size
                && last.flags == run.flags =>
        {
            last.range = last.range.hull(run.range);
            true
        }
        _ => runs.push_within_capacity(run).is_ok(),
    }
}
