// SPDX-License-Identifier: GPL-2.0

//! What leaves there are: read from the page table, joined into runs of like ones.

use kernel::prelude::*;

use crate::{
    bindings,
    container::State,
    domain::{
        first_piece,
        give_way,
        PIECE, //
    },
    follow::blocks_of,
    num::unsupported,
    pgtable::{
        Iova,
        IovaRange,
        Leaf,
        LikeRun,
        PageSize, //
    },
    rmap::{
        Block,
        Guard, //
    }, //
};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Leaves.
    Leaves,
    /// Those of them that disagree with the RMP.
    Mismatches,
    /// Leaves, and pages that are private.
    State,
}

/// A run of like leaves, or of private pages, as it is reported.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) range: IovaRange,
    /// The size of each leaf; `None`: the pages are private.
    pub(crate) size: Option<PageSize>,
    /// `VFIO_PGSIZE_RUN_*`.
    pub(crate) flags: u32,
}

impl State {
    /// Fills `runs`, as far as it has room, with what is wanted of `range`. Returns what is left to be
    /// asked for.
    ///
    /// Errors: `ENOENT` no such domain; `EOPNOTSUPP` its page table can not be read, or nothing is
    /// followed, so that nobody can audit; `EINTR` a fatal signal came.
    pub(crate) fn query(
        &self,
        domain: usize,
        range: IovaRange,
        wanted: Wanted,
        runs: &mut KVVec<Run>,
    ) -> Result<Option<IovaRange>> {
        let table = self.domains.get(domain).ok_or(ENOENT)?;
        let view = table.table().ok_or_else(unsupported)?.view();
        let audit = wanted == Wanted::Mismatches;

        if audit && self.hook.is_none() {
            return Err(unsupported());
        }
        // Where nothing is mapped there is nothing to look for.
        for mapping in self.mappings.overlapping(range) {
            let with_private = wanted == Wanted::State && mapping.stateful;
            let mut left = mapping.range.intersect(range);

            while let Some(todo) = left {
                let piece = first_piece(todo, PIECE);
                let audited = audit.then(|| view.leaves(piece));
                let found = (!audit).then(|| view.like_runs(piece).map(Run::from));
                let wrong = |leaf: &Leaf| disagrees(leaf, || view.leaf_at(leaf.iova));
                let mut next = Some(todo.start());

                for leaf in audited.into_iter().flatten().filter(wrong) {
                    if !append(runs, Run::from(leaf)) {
                        return Ok(range.from(leaf.iova));
                    }
                    self.follower.found_mismatch((&leaf).into());
                }
                for run in found.into_iter().flatten() {
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
                // A leaf that goes on behind the piece was seen.
                let seen = view.leaf_at(piece.last()).map(|leaf| leaf.range().last());
                if let Some(gap) = gap(next, Some(piece.last())) {
                    if with_private && !append(runs, Run::private(gap)) {
                        return Ok(range.from(gap.start()));
                    }
                }
                left = todo.behind(seen.unwrap_or(piece.last()));
                give_way()?;
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
}

impl From<LikeRun> for Run {
    fn from(run: LikeRun) -> Self {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };

        Self {
            range: run.range,
            size: Some(run.size),
            flags: flag(run.attrs.readable(), bindings::VFIO_PGSIZE_RUN_READ)
                | flag(run.attrs.writable(), bindings::VFIO_PGSIZE_RUN_WRITE),
        }
    }
}

impl From<Leaf> for Run {
    fn from(leaf: Leaf) -> Self {
        Self::from(LikeRun {
            range: leaf.range(),
            size: leaf.size(),
            attrs: leaf.attrs(),
        })
    }
}

/// The addresses from `next` to `last`, if there are any.
fn gap(next: Option<Iova>, last: Option<Iova>) -> Option<IovaRange> {
    IovaRange::new(next?, last?)
}

/// Whether a leaf, which is `now` as it says, disagrees with the RMP.
fn disagrees(leaf: &Leaf, now: impl Fn() -> Option<Leaf>) -> bool {
    let is_broken = |block: IovaRange| {
        let frames = Block::of(leaf.phys().at(leaf.iova, block.start()));
        let same = |now: Leaf| now.range() == leaf.range();

        if !frames.is_broken() {
            return false;
        }
        // The hook may have split the leaf since it was read, before the RMP was changed.
        let _guard = Guard::lock();
        now().is_some_and(same) && frames.is_broken()
    };

    leaf.size() >= PageSize::SIZE_2M && blocks_of(leaf.range()).any(is_broken)
}

/// Adds `run`; one that goes on where the last ended is a part of it. False if there is no room.
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
