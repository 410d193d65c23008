// SPDX-License-Identifier: GPL-2.0

//! Unmapping, a piece at a time, each with its flush.

use super::domain::{
    Domain,
    PIECE, //
};
use crate::{
    pgtable::{
        first_piece,
        IovaRange, //
    },
    sys::sched::cond_resched, //
};

impl Domain {
    /// Unmaps all of `range`, piece by piece, and flushes. Says whether it could: up to the first
    /// hole, of which there is to be none.
    ///
    /// No leaf crosses an end of the range.
    pub(crate) fn unmap(&self, range: IovaRange) -> bool {
        let mut left = Some(range);

        while let Some(todo) = left {
            let piece = first_piece(todo, PIECE);
            // A leaf larger than a piece goes as a whole.
            let (unmapped, _) = self.flushed(|gather| gather.unmap(piece));
            if kernel::warn_on!(piece.bytes().is_none_or(|bytes| unmapped < bytes)) {
                return false;
            }
            left = todo
                .start()
                .checked_add(unmapped)
                .and_then(|next| todo.from(next));
            cond_resched();
        }
        true
    }

    pub(crate) fn unmap_around_holes(&self, range: IovaRange) -> bool {
        let mut done = true;
        let mut left = Some(range);

        while let (Some(todo), Some(table)) =
            (left.and_then(|left| self.skip_holes(left)), self.table())
        {
            let piece = first_piece(todo, PIECE);
            let mut last = piece.last();
            let (all, _) = self.flushed(|gather| {
                // A leaf larger than a piece goes as a whole.
                table.extents_from(piece, todo).all(|extent| {
                    last = last.max(extent.range.last());
                    extent.range.bytes() == Some(gather.unmap(extent.range))
                })
            });
            done &= !kernel::warn_on!(!all);
            left = todo.behind(last);
            cond_resched();
        }
        done
    }
}
