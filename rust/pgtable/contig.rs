// SPDX-License-Identifier: GPL-2.0

//! Contiguous runs, and their tiling.
//!
//! The tile at an address has the largest allowed size whose aligned block around the address lies
//! within the contiguous run, where IOVA and physical address are aligned alike:
//!
//! ```text
//! contiguous run |----------------------------------------------|
//! 2M blocks     .  |           |           |           |          .
//! tiles         |..|     2M    |     2M    |     2M    |4K 4K 4K..|
//! ```
//!
//! Aligned blocks are nested or disjoint, so the tiling is unique. Taking the largest size that
//! fits, from left to right, finds it; so does the driver's map (`generic_pt/iommu_pt.h`).

use super::{
    Iova,
    IovaRange,
    PageSize,
    PageSizes,
    Phys, //
};

/// An IOVA range that is contiguous in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContigRun {
    /// The range.
    pub range: IovaRange,
    /// The physical address of `range.start()`.
    pub phys: Phys,
}

impl ContigRun {
    /// The physical address of `iova`, which is in the range.
    pub fn phys_at(&self, iova: Iova) -> Phys {
        self.phys.at(self.range.start(), iova)
    }

    /// Whether `next` starts where this ends, in IOVA and in physical memory.
    pub fn is_followed_by(&self, next: &Self) -> bool {
        self.range.last().next() == Some(next.range.start())
            && self.phys_at(next.range.start()) == next.phys
    }

    /// The blocks of 2M that 2M leaves can map: those that lie within the range and are aligned in
    /// physical memory, too. `None` if there are none.
    pub fn blocks(&self) -> Option<IovaRange> {
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

/// Adjacent tiles of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    pub(super) start: Iova,
    pub(super) last: Iova,
    pub(super) size: PageSize,
}

impl ContigRun {
    /// The largest of `sizes` to which `iova` and its physical address are aligned; else 4K.
    #[inline]
    fn aligned_size(&self, iova: Iova, sizes: PageSizes) -> PageSize {
        let bits = iova.get() | self.phys.at(self.range.start(), iova).get();
        // The lowest bit that is set, and all below it: the sizes up to that alignment.
        let limit = PageSizes::from_bits(bits ^ bits.wrapping_sub(1));

        sizes
            .intersect(limit)
            .largest()
            .unwrap_or(PageSize::SIZE_4K)
    }

    /// The adjacent tiles from `iova` on that have the size of the first one. More tiles of this
    /// size may follow.
    ///
    /// `iova` is in the contiguous run and is the start of a tile.
    #[inline]
    pub(super) fn tiles_at(&self, iova: Iova, sizes: PageSizes) -> Tiles {
        let last = self.range.last();
        let more = last.above(iova);
        let room = match more.checked_add(1).and_then(u64::checked_ilog2) {
            // All sizes that are not larger than the rest of the run.
            Some(lg2) => PageSizes::from_bits(!u64::MAX.wrapping_shl(lg2).wrapping_shl(1)),
            None => PageSizes::ALL,
        };
        let size = self.aligned_size(iova, sizes.intersect(room));
        let phys = self.phys.at(self.range.start(), iova);

        // A larger tile starts only where both addresses are aligned to a larger size.
        let end = match sizes.above(size).smallest() {
            Some(larger) if (iova.get() ^ phys.get()) & larger.mask() == 0 => {
                last.min(iova.align_last(larger))
            }
            _ => last,
        };
        let end = match end.next() {
            Some(next) => next.align_down(size).before().unwrap_or(end),
            None => end,
        };

        Tiles {
            start: iova,
            last: end,
            size,
        }
    }
}
