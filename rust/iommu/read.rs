// SPDX-License-Identifier: GPL-2.0

//! What a domain maps, read from its page table.

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
    /// The rest of `range` from the first address on that is mapped, as far as that can be told at
    /// once: what is sparse is not looked through piece by piece.
    pub(crate) fn skip_holes(&self, range: IovaRange) -> Option<IovaRange> {
        let Some(table) = self.table() else {
            return Some(range);
        };
        let first = table.view().leaves(range).next()?;

        range.from(first.iova.max(range.start()))
    }

    /// What `range` is mapped to: as many contiguous runs from its start on as `found` has room for, and
    /// no more than a piece unless a leaf is larger. Returns how far that is: what lies between the
    /// contiguous runs is not mapped.
    ///
    /// No leaf crosses an end of the range.
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

    /// The same, page by page: for formats that we can not read.
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

    /// Where `iova` is in physical memory, as the driver says. A mapping to address 0 counts as none.
    fn translate(&self, iova: Iova) -> Option<Phys> {
        // SAFETY: By the type invariant.
        let phys = unsafe { bindings::iommu_iova_to_phys(self.as_ptr(), iova.get()) };

        Phys::new(phys).filter(|phys| phys.get() != 0)
    }
}
