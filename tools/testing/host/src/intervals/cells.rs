// SPDX-License-Identifier: GPL-2.0

//! Divides all addresses into a few cells: small ones at both ends, one large one in between.
//! Ranges consist of whole cells, and all addresses of a cell are equal.

use std::ops::RangeInclusive;

use proptest::prelude::*;

use crate::pgtable::{
    Iova,
    IovaRange,
    PAGE_BYTES, //
};

/// The start of each cell. The first starts at 0, the last ends with the address space.
pub(super) struct Cells(Vec<u64>);

/// Some adjacent cells.
pub(super) type Span = RangeInclusive<usize>;

impl Cells {
    /// The first and the last `pages` pages.
    pub(super) fn pages(pages: u64) -> Self {
        let low = (0..=pages).map(|page| page * PAGE_BYTES);
        let high = (1..=pages)
            .rev()
            .map(|page| (page * PAGE_BYTES).wrapping_neg());

        Self(low.chain(high).collect())
    }

    /// The first and the last `pages` pages, with the first and the last byte of each as separate
    /// cells.
    pub(super) fn bytes(pages: u64) -> Self {
        let pages = Self::pages(pages).0;
        let parts = |page: &u64| [*page, page + 1, page + (PAGE_BYTES - 1)];

        Self(pages.iter().flat_map(parts).collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn first(&self, cell: usize) -> u64 {
        self.0[cell]
    }

    pub(super) fn last(&self, cell: usize) -> u64 {
        self.0.get(cell + 1).map_or(u64::MAX, |next| next - 1)
    }

    /// The range of some cells, if these are whole pages.
    pub(super) fn try_range(&self, cells: &Span) -> Option<IovaRange> {
        let (first, last) = (self.first(*cells.start()), self.last(*cells.end()));

        IovaRange::new(Iova::new(first), Iova::new(last))
    }

    pub(super) fn range(&self, cells: &Span) -> IovaRange {
        self.try_range(cells).expect("whole pages")
    }

    /// Addresses within a cell, at and near both ends.
    pub(super) fn probes(&self, cell: usize) -> impl Iterator<Item = Iova> {
        let (first, last) = (self.first(cell), self.last(cell));
        let probes = [
            first,
            (first + 1).min(last),
            last.saturating_sub(1).max(first),
            last,
        ];

        probes.into_iter().map(Iova::new)
    }

    /// All spans.
    pub(super) fn all(&self) -> impl Iterator<Item = Span> {
        let count = self.count();

        (0..count).flat_map(move |first| (first..count).map(move |last| first..=last))
    }

    /// One of [`Self::all`], preferably a short one.
    pub(super) fn any(&self) -> impl Strategy<Value = Span> {
        let count = self.count();
        let more = prop_oneof![2 => 0..3usize, 1 => 0..count];

        (0..count, more).prop_map(move |(first, more)| first..=(first + more).min(count - 1))
    }
}

/// Splits `cells` where the `kind` of neighbours differs.
pub(super) fn runs<K: PartialEq>(cells: &Span, kind: impl Fn(usize) -> K) -> Vec<Span> {
    let mut runs: Vec<Span> = Vec::new();

    for cell in cells.clone() {
        match runs.last_mut() {
            Some(run) if kind(*run.end()) == kind(cell) => *run = *run.start()..=cell,
            _ => runs.push(cell..=cell),
        }
    }
    runs
}
