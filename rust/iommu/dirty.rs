// SPDX-License-Identifier: GPL-2.0

//! Dirty tracking: the IOMMU sets the dirty bit of a leaf when a device writes there.
//!
//! A domain can track if it was allocated for that, which needs an IOMMU that can
//! (`Group::alloc_domain`). The dirty bits are in its page table, and nowhere else.

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

/// What happens to the dirty bits that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// They stay.
    Peek,
    /// They are cleared: each write is reported once.
    Take,
}

impl Domain {
    /// Whether the IOMMU sets dirty bits now.
    pub(crate) fn is_tracking(&self) -> bool {
        self.tracking
    }

    /// Switches dirty tracking on or off. Dirty bits that are set stay set. Does nothing if the IOMMU
    /// has no dirty bits.
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

    /// Calls `each` with the dirty parts of `range`. If their bits are cleared, report them only after
    /// the flush of `gather`.
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

    /// Sets the dirty bits of all leaves in `range`.
    pub(crate) fn note_written(&self, range: IovaRange) {
        self.in_pieces(range, |table, piece| {
            table.edit_in_place(|editor| editor.make_dirty(piece));
        });
    }

    /// Removes the permission to write from all leaves in `range`, or with `allow` restores it. No leaf
    /// crosses an end of the range. After the flush of `gather`, no dirty bit is set any more.
    pub(crate) fn allow_writes(&self, range: IovaRange, allow: bool, gather: &mut Gather<'_>) {
        self.in_pieces(range, |table, piece| {
            table.edit_in_place(|editor| editor.allow_writes(piece, allow));
        });
        if !allow {
            gather.touch(range);
        }
    }

    /// Calls `work` with one piece of `range` after the other. Only at the ends of the range may a leaf
    /// cross the end of a piece.
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
