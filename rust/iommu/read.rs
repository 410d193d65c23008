// SPDX-License-Identifier: GPL-2.0

//! Reads what a domain maps.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::domain::{
    Domain,
    PIECE, //
};
use crate::{
    pgtable::{
        first_piece,
        ContigRun,
        Iova,
        IovaRange,
        PageSize,
        Phys, //
    },
    sys::bindings, //
};

impl Domain {
    /// The part of `range` from the first mapped address on; `None` if nothing is mapped. If the
    /// page table cannot be read, `range`. Skips large holes at the cost of one walk.
    pub(crate) fn skip_holes(&self, range: IovaRange) -> Option<IovaRange> {
        let Some(table) = self.table() else {
            return Some(range);
        };
        let first = table.view().leaves(range).next()?;

        range.from(first.iova.max(range.start()))
    }

    /// Reads what is mapped from the start of `range` on: up to the capacity of `found`, and up to
    /// the end of a piece ([`PIECE`]), or of a larger leaf. Returns the range that was read; what
    /// `found` does not cover of it is not mapped.
    ///
    /// No leaf may cross an end of the range.
    pub(crate) fn contig_runs(&self, range: IovaRange, found: &mut KVVec<ContigRun>) -> IovaRange {
        let piece = first_piece(range, PIECE);

        found.clear();
        match self.table() {
            Some(table) => table.contig_runs(piece, range, found),
            None => self.look_up(piece, found),
        }
        let seen = found.last().map_or(piece, |last| last.range);
        let last = if found.len() == found.capacity() {
            seen.last()
        } else {
            piece.last().max(seen.last())
        };
        IovaRange::new(range.start(), last).unwrap_or(piece)
    }

    /// As [`Self::contig_runs`], page by page, for page tables that we cannot read.
    fn look_up(&self, piece: IovaRange, found: &mut KVVec<ContigRun>) {
        let mut left = Some(piece);

        while let Some(todo) = left {
            let page = IovaRange::block(todo.start(), PageSize::SIZE_4K);
            left = todo.behind(page.last());
            let Some(phys) = self.translate(todo.start()) else {
                continue;
            };
            let contig = ContigRun { range: page, phys };
            match found.last_mut() {
                Some(last) if last.is_followed_by(&contig) => last.range = last.range.hull(page),
                _ => {
                    if found.push_within_capacity(contig).is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The physical address of `iova`, from the driver. Address 0 means not mapped
    /// (`iommu_iova_to_phys`).
    fn translate(&self, iova: Iova) -> Option<Phys> {
        // SAFETY: By the type invariant.
        let phys = unsafe { bindings::iommu_iova_to_phys(self.as_ptr(), iova.get()) };

        Phys::new(phys).filter(|phys| phys.get() != 0)
    }
}
