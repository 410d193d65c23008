// SPDX-License-Identifier: GPL-2.0

//! What leaves there are: read from the page table, joined into runs of like ones.

use kernel::prelude::*;

use crate::{
    container::State,
    domain::{
        first_piece,
        give_way,
        PIECE, //
    },
    follow::blocks_of,
    num::unsupported,
    pgtable::{
        IovaRange,
        Leaf,
        LikeRun,
        PageSize, //
    },
    rmap::Block, //
};

impl State {
    /// Fills `runs`, as far as it has room, with the leaves that have an address in `range`; if
    /// `audit`, only with those that disagree with the RMP. Returns what is left to be asked for.
    ///
    /// Errors: `ENOENT` no such domain; `EOPNOTSUPP` its page table can not be read, or nothing is
    /// followed, so that nobody can audit; `EINTR` a fatal signal came.
    pub(crate) fn query(
        &self,
        domain: usize,
        range: IovaRange,
        audit: bool,
        runs: &mut KVVec<LikeRun>,
    ) -> Result<Option<IovaRange>> {
        let table = self.domains.get(domain).ok_or(ENOENT)?;
        let view = table.table().ok_or_else(unsupported)?.view();

        if audit && self.hook.is_none() {
            return Err(unsupported());
        }
        // Where nothing is mapped there is nothing to look for.
        for mapping in self.mappings.overlapping(range) {
            let mut left = mapping.range.intersect(range);

            while let Some(todo) = left {
                let piece = first_piece(todo, PIECE);
                let mut all = view.like_runs(piece);
                let mut wrong = view.leaves(piece).filter(disagrees).map(run_of);
                let found: &mut dyn Iterator<Item = LikeRun> =
                    if audit { &mut wrong } else { &mut all };

                for run in found {
                    if !append(runs, run) {
                        return Ok(range.from(run.range.start()));
                    }
                }
                // A leaf that goes on behind the piece was seen.
                let seen = view.leaf_at(piece.last()).map(|leaf| leaf.range().last());
                left = todo.behind(seen.unwrap_or(piece.last()));
                give_way()?;
            }
        }
        Ok(None)
    }
}

/// A leaf by itself.
fn run_of(leaf: Leaf) -> LikeRun {
    LikeRun {
        range: leaf.range(),
        size: leaf.size(),
        attrs: leaf.attrs(),
    }
}

/// Whether a leaf disagrees with the RMP.
fn disagrees(leaf: &Leaf) -> bool {
    leaf.size() >= PageSize::SIZE_2M
        && blocks_of(leaf.range())
            .any(|block| Block::of(leaf.phys().at(leaf.iova, block.start())).is_broken())
}

/// Adds `run`; one that goes on where the last ended is a part of it. False if there is no room.
fn append(runs: &mut KVVec<LikeRun>, run: LikeRun) -> bool {
    match runs.last_mut() {
        Some(last)
            if last.range.last().next() == Some(run.range.start())
                && last.size == run.size
                && last.attrs == run.attrs =>
        {
            last.range = last.range.hull(run.range);
            true
        }
        _ => runs.push_within_capacity(run).is_ok(),
    }
}
