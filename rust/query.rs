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
    pgtable::{
        IovaRange,
        LikeRun, //
    }, //
};

impl State {
    /// Fills `runs`, as far as it has room, with the leaves that have an address in `range`. Returns
    /// what is left to be asked for.
    ///
    /// Errors: `ENOENT` no such domain; `EOPNOTSUPP` its page table can not be read; `EINTR` a fatal
    /// signal came.
    pub(crate) fn query(
        &self,
        domain: usize,
        range: IovaRange,
        runs: &mut KVVec<LikeRun>,
    ) -> Result<Option<IovaRange>> {
        let table = self.domains.get(domain).ok_or(ENOENT)?;
        let table = table.table().ok_or(EOPNOTSUPP)?;

        // Where nothing is mapped there is nothing to look for.
        for mapping in self.mappings.overlapping(range) {
            let mut left = mapping.range.intersect(range);

            while let Some(todo) = left {
                let piece = first_piece(todo, PIECE);
                let mut reached = piece.last();

                for run in table.view().like_runs(piece) {
                    if !append(runs, run) {
                        return Ok(range.from(run.range.start()));
                    }
                    reached = reached.max(run.range.last());
                }
                left = reached.next().and_then(|next| todo.from(next));
                give_way()?;
            }
        }
        Ok(None)
    }
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
