// SPDX-License-Identifier: GPL-2.0

//! Plans of splits.

use super::{
    contig::{
        ContigRun,
        Tiles, //
    },
    Format,
    Iova,
    IovaRange,
    Leaf,
    PageSizes, //
};

/// The leaves that replace `leaf`: one tiling for its part in `inner`, one for the parts around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) leaf: Leaf,
    inner: IovaRange,
    inner_sizes: PageSizes,
    outer_sizes: PageSizes,
}

impl Plan {
    /// The part of `leaf` in `inner` gets leaves of `inner_sizes`, the rest gets `outer_sizes`. 4K
    /// is always allowed. Sizes that the format does not have, or that exceed the leaf, are not
    /// used.
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

    /// See [`ContigRun::tiles_at`]. `iova` is the start of a tile of the plan.
    pub(super) fn tiles_at(&self, iova: Iova) -> Tiles {
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
        let contig = ContigRun {
            range: IovaRange::new(start, last).unwrap_or(whole),
            phys: self.leaf.phys().at(whole.start(), start),
        };

        contig.tiles_at(iova, sizes)
    }
}
