// SPDX-License-Identifier: GPL-2.0

//! Which leaves an extent ought to have.
//!
//! The tile of an address is the largest allowed size whose aligned block around the address lies
//! wholly in the extent, and to which IOVA and physical address are aligned alike:
//!
//! ```text
//! extent        |----------------------------------------------|
//! 2M blocks     .  |           |           |           |          .
//! tiles         |..|     2M    |     2M    |     2M    |4K 4K 4K..|
//! ```
//!
//! The blocks are nested or disjoint, so that the tiling is unique, and going from left to right
//! with the largest size that fits finds it. That is what the driver's map does.

use super::{
    Format,
    Iova,
    IovaRange,
    Leaf,
    PageSize,
    PageSizes,
    Phys, //
};

/// Addresses that are contiguous in physical memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) range: IovaRange,
    /// Where `range.start()` is.
    pub(super) phys: Phys,
}

/// Tiles of equal size that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Iova,
    pub(super) last: Iova,
    pub(super) size: PageSize,
}

impl Stretch {
    /// The largest of `sizes` to which `iova` and its physical address are both aligned; 4K if
    /// none is.
    #[inline]
    pub(super) fn aligned_size(&self, iova: Iova, sizes: PageSizes) -> PageSize {
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
    /// `iova` is in the stretch and is where a tile starts.
    #[inline]
    pub(super) fn span_at(&self, iova: Iova, sizes: PageSizes) -> Span {
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

        Span {
            start: iova,
            last: end,
            size,
        }
    }
}

/// What is to become of a leaf: the tilings of its part within `inner`, and of what lies before and
/// behind that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) leaf: Leaf,
    inner: IovaRange,
    inner_sizes: PageSizes,
    outer_sizes: PageSizes,
}

impl Plan {
    /// The part of `leaf` in `inner` gets tiles of `inner_sizes`, the rest of `outer_sizes`. 4K is
    /// always allowed, and nothing is allowed that the format has not, or the leaf no room for.
    ///
    /// `inner` is within the leaf.
    pub(super) fn new(
        format: impl Format,
        leaf: Leaf,
        inner: IovaRange,
        inner_sizes: PageSizes,
        outer_sizes: PageSizes,
    ) -> Self {
        let sizes = format.sizes().up_to(leaf.size());
        let fitting = |wanted: PageSizes| wanted.intersect(sizes).union(PageSizes::ONLY_4K);

        Self {
            leaf,
            inner,
            inner_sizes: fitting(inner_sizes),
            outer_sizes: fitting(outer_sizes),
        }
    }

    /// See [`Stretch::span_at`]: `iova` is where a tile of the plan starts.
    pub(super) fn span_at(&self, iova: Iova) -> Span {
        let whole = self.leaf.range();
        let (start, last, sizes) = if iova < self.inner.start() {
            let last = self.inner.start().before().unwrap_or(iova);
            (whole.start(), last, self.outer_sizes)
        } else if iova <= self.inner.last() {
            (self.inner.start(), self.inner.last(), self.inner_sizes)
        } else {
            let start = self.inner.last().next().unwrap_or(iova);
            (start, whole.last(), self.outer_sizes)
        };
        let stretch = Stretch {
            range: IovaRange::new(start, last).unwrap_or(whole),
            phys: self.leaf.phys().at(whole.start(), start),
        };

        stretch.span_at(iova, sizes)
    }
}
