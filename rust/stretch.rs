// SPDX-License-Identifier: GPL-2.0

//! Stretches: IOVAs that are contiguous in physical memory.

use crate::pgtable::{
    Iova,
    IovaRange,
    PageSize,
    Phys, //
};

/// IOVAs that are contiguous in physical memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) range: IovaRange,
    /// Where `range.start()` is.
    pub(crate) phys: Phys,
}

impl Stretch {
    /// Where an IOVA of the stretch is.
    pub(crate) fn phys_at(&self, iova: Iova) -> Phys {
        self.phys.at(self.range.start(), iova)
    }

    /// Whether `next` begins where this ends, in IOVAs and in memory.
    pub(crate) fn goes_on_in(&self, next: &Self) -> bool {
        self.range.last().next() == Some(next.range.start())
            && self.phys_at(next.range.start()) == next.phys
    }

    /// The blocks of 2M in it that leaves of 2M can translate: those that lie wholly in it, if they
    /// are blocks of 2M in memory too.
    pub(crate) fn blocks(&self) -> Option<IovaRange> {
        const SIZE: PageSize = PageSize::SIZE_2M;
        let range = self.range;
        let start = range.start().checked_add(SIZE.mask())?.align_down(SIZE);
        let last = match range.last() {
            last if last == last.align_last(SIZE) => last,
            last => last.align_down(SIZE).before()?,
        };

        if (range.start().get() ^ self.phys.get()) & SIZE.mask() != 0 {
            return None;
        }
        IovaRange::new(start, last)
    }
}
