// SPDX-License-Identifier: GPL-2.0

//! Dirty tracking: the IOMMU notes in the leaves what devices write.
//!
//! A domain tracks if it was allocated for that, which only an IOMMU that can does
//! (`Group::alloc_domain`). The notes are in its page table, and nowhere else.

#![allow(unsafe_code)]

use kernel::{
    error::to_result,
    prelude::*, //
};

use super::{
    domain::{
        Domain,
        PIECE, //
    },
    flush::Gather,
    table::PageTable, //
};
use crate::{
    pgtable::{
        first_piece,
        IovaRange, //
    },
    sys::sched::cond_resched, //
};

/// What becomes of the notes that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// They stay.
    Peek,
    /// They go: what is told is told once.
    Take,
}

impl Domain {
    /// Whether it does so now.
    pub(crate) fn is_tracking(&self) -> bool {
        self.tracking
    }

    /// Has the IOMMU note what devices write, or no more. What is noted already stays. Does nothing if
    /// the IOMMU cannot.
    pub(crate) fn track(&mut self, on: bool) -> Result {
        // SAFETY: The operations of a domain are its driver's, which is not unloaded.
        let ops = unsafe { self.get().dirty_ops.as_ref() };

        if let Some(set) = ops.and_then(|ops| ops.set_dirty_tracking) {
            // SAFETY: It is the domain's own operation. It flushes what was cached otherwise.
            to_result(unsafe { set(self.as_ptr(), on) })?;
            self.tracking = on;
        }
        Ok(())
    }

    /// Calls `each` with what of `range` is noted as written. What is taken is to be told only when the
    /// gather is flushed.
    pub(crate) fn dirty(
        &self,
        range: IovaRange,
        reading: Reading,
        gather: &mut Gather<'_>,
        mut each: impl FnMut(IovaRange),
    ) {
        self.in_pieces(range, |table, piece| match reading {
            Reading::Peek => table.edit_in_place(|editor| editor.dirty(piece, &mut each)),
            Reading::Take => {
                let touched = table.edit_in_place(|editor| editor.take_dirty(piece, &mut each));
                if let Some(touched) = touched {
                    gather.touch(touched);
                }
            }
        });
    }

    /// Notes that all that is mapped of `range` was written.
    pub(crate) fn note_written(&self, range: IovaRange) {
        self.in_pieces(range, |table, piece| {
            table.edit_in_place(|editor| editor.make_dirty(piece));
        });
    }

    /// Lets devices write nowhere in `range`, of which no leaf crosses an end, or, if `allow`, everywhere
    /// again. When the gather is flushed nothing is noted of it any more.
    pub(crate) fn allow_writes(&self, range: IovaRange, allow: bool, gather: &mut Gather<'_>) {
        self.in_pieces(range, |table, piece| {
            table.edit_in_place(|editor| editor.allow_writes(piece, allow));
        });
        if !allow {
            gather.touch(range);
        }
    }

    /// Has `work` done with one piece of `range` after the other. No leaf crosses the ends of a piece but
    /// those of the range.
    fn in_pieces(&self, range: IovaRange, mut work: impl FnMut(&PageTable<'_>, IovaRange)) {
        let Some(table) = self.table() else {
            return;
        };
        let mut left = self.skip_holes(range);

        while let Some(todo) = left {
            let piece = first_piece(todo, PIECE);
            let leaf = table.view().leaf_at(piece.last());
            let whole = leaf.and_then(|leaf| leaf.range().intersect(todo));
            let piece = whole.map_or(piece, |whole| piece.hull(whole));

            work(&table, piece);
            left = todo
                .behind(piece.last())
                .and_then(|left| self.skip_holes(left));
            cond_resched();
        }
    }
}
