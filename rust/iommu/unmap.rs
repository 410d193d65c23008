// SPDX-License-Identifier: GPL-2.0

//! Unmaps long ranges, piece by piece.

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
    /// Unmaps `range`, which is mapped as a whole, and flushes. Returns whether it did; it stops at
    /// a hole.
    ///
    /// No leaf may cross an end of the range. Sleeps.
    pub(crate) fn unmap(&self, range: IovaRange) -> bool {
        let mut left = Some(range);

        while let Some(todo) = left {
            let piece = first_piece(todo, PIECE);
            // The driver unmaps a leaf larger than a piece as a whole.
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

    /// Unmaps what is mapped in `range`, and flushes. Returns whether it did. The page table can be
    /// read.
    ///
    /// No leaf may cross an end of the range. Sleeps.
    pub(crate) fn unmap_around_holes(&self, range: IovaRange) -> bool {
        let mut done = true;
        let mut left = Some(range);

        while let (Some(todo), Some(table)) =
            (left.and_then(|left| self.skip_holes(left)), self.table())
        {
            let piece = first_piece(todo, PIECE);
            let mut last = piece.last();
            let (all, _) = self.flushed(|gather| {
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
