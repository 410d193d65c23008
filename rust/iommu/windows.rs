// SPDX-License-Identifier: GPL-2.0

//! Where IOVAs can be: what all domains reach, without what devices keep to themselves.

use kernel::prelude::*;

use crate::pgtable::{
    Iova,
    IovaRange, //
};

/// A range of addresses, to the byte; the end is included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Iova,
    pub(crate) last: Iova,
}

impl Span {
    /// From `start` to `last`; `None` if that is nothing.
    pub(crate) fn new(start: u64, last: u64) -> Option<Self> {
        (start <= last).then_some(Self {
            start: Iova::new(start),
            last: Iova::new(last),
        })
    }

    /// `bytes` from `start` on, cut at the end of all addresses.
    pub(crate) fn with_len(start: u64, bytes: u64) -> Option<Self> {
        let more = bytes.checked_sub(1)?;

        Self::new(start, start.saturating_add(more))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }
}

/// The usable windows of an address space, in rising order, apart from each other.
pub(crate) struct Windows(KVec<Span>);

impl Windows {
    /// None: nothing can be mapped.
    pub(crate) const fn none() -> Self {
        Self(KVec::new())
    }

    /// All addresses.
    pub(crate) fn everything() -> Result<Self> {
        let mut spans = KVec::with_capacity(1, GFP_KERNEL_ACCOUNT)?;

        spans.push(
            Span {
                start: Iova::ZERO,
                last: Iova::MAX,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(Self(spans))
    }

    pub(crate) fn as_slice(&self) -> &[Span] {
        &self.0
    }

    /// Whether all of `range` is in one window.
    pub(crate) fn admit(&self, range: IovaRange) -> bool {
        self.0
            .iter()
            .any(|window| window.start <= range.start() && range.last() <= window.last)
    }

    /// Takes away what lies outside of `aperture`.
    pub(crate) fn confine(&mut self, aperture: Span) -> Result {
        if let Some(before) = aperture.start.before() {
            self.exclude(Span {
                start: Iova::ZERO,
                last: before,
            })?;
        }
        if let Some(behind) = aperture.last.next() {
            self.exclude(Span {
                start: behind,
                last: Iova::MAX,
            })?;
        }
        Ok(())
    }

    /// Takes `hole` away.
    pub(crate) fn exclude(&mut self, hole: Span) -> Result {
        // A hole in the midst of a window makes two of it.
        let mut left = KVec::with_capacity(self.0.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;

        for window in &self.0 {
            if !window.overlaps(&hole) {
                left.push(*window, GFP_KERNEL_ACCOUNT)?;
                continue;
            }
            let before = hole.start.before().filter(|last| *last >= window.start);
            let behind = hole.last.next().filter(|start| *start <= window.last);
            if let Some(last) = before {
                left.push(Span { last, ..*window }, GFP_KERNEL_ACCOUNT)?;
            }
            if let Some(start) = behind {
                left.push(Span { start, ..*window }, GFP_KERNEL_ACCOUNT)?;
            }
        }
        self.0 = left;
        Ok(())
    }
}
