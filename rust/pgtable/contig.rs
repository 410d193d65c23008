// SPDX-License-Identifier: GPL-2.0

//! Contiguous runs, and the leaves that one ought to have.
//!
//! The tile of an address is the largest allowed size whose aligned block around the address lies
//! wholly in the contiguous run, and to which IOVA and physical address are aligned alike:
//!
//! ```text
//! contiguous run       |----------------------------------------------|
//! 2M blocks     .  |           |           |           |          .
//! tiles         |..|     2M    |     2M    |     2M    |4K 4K 4K..|
//! ```
//!
//! The blocks are nested or disjoint, so that the tiling is unique, and going from left to right
//! with the largest size that fits finds it. That is what the driver's map does.

use super::{
    Iova,
    IovaRange,
    PageSize,
    PageSizes,
    Phys, //
};

/// IOVAs that are contiguous in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContigRun {
    pub range: IovaRange,
    /// Where `range.start()` is.
    pub phys: Phys,
}

impl ContigRun {
    /// Where an IOVA of the contiguous run is.
    pub fn phys_at(&self, iova: Iova) -> Phys {
        self.phys.at(self.range.start(), iova)
    }

    /// Whether `next` begins where this ends, in IOVAs and in memory.
    pub fn is_followed_by(&self, next: &Self) -> bool {
        self.range.last().next() == Some(next.range.start())
            && self.phys_at(next.range.start()) == next.phys
    }

    /// The blocks of 2M in it that leaves of 2M can translate: those that lie wholly in it, if they
    /// are blocks of 2M in memory too.
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

/// Tiles of equal size that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    pub(super) start: Iova,
    pub(super) last: Iova,
    pub(super) size: PageSize,
}

impl ContigRun {
    /// The largest of `sizes` to which `iova` and its physical address are both aligned; 4K if
    /// none is.
    #[inline]
    fn aligned_size(&self, iova: Iova, sizes: PageSizes) -> PageSize {
        let bits = iova.get() | self.phys.at(self.range.start(), iova).get();
        // The lowest bit set, and all below it: the sizes up to that alignment.
        let limit = PageSizes::from_bits(bits ^ bits.wrapping_sub(1));

        sizes
            .intersect(limit)
            .largest()
            .unwrap_or(PageSize::SIZE_4K)
    }

    /// The tiles from `iova` on that are of the size of the first. There may be more of the same
    /// size behind them.
    ///
    /// `iova` is in the contiguous run and is where a tile starts.
    #[inline]
    pub(super) fn tiles_at(&self, iova: Iova, sizes: PageSizes) -> Tiles {
        let last = self.range.last();
        let more = last.above(iova);
        let room = match more.checked_add(1).and_then(u64::checked_ilog2) {
            // All sizes up to the largest power of two that the rest has room for.
            Some(lg2) => PageSizes::from_bits(!u64::MAX.wrapping_shl(lg2).wrapping_shl(1)),
            None => PageSizes::ALL,
        };
        let size = self.aligned_size(iova, sizes.intersect(room));
        let phys = self.phys.at(self.range.start(), iova);

        // A larger tile can start only where a larger size is aligned in both.
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
