// SPDX-License-Identifier: GPL-2.0

//! Usable IOVA windows: what all domains support, without the reserved regions of the groups.

use kernel::prelude::*;

use crate::pgtable::{
    Iova,
    IovaRange, //
};

/// A non-empty range of bytes, with an inclusive end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// First byte.
    pub(crate) start: Iova,
    /// Last byte.
    pub(crate) last: Iova,
}

impl Span {
    /// From `start` to `last`; `None` if `last` is lower.
    pub(crate) fn new(start: u64, last: u64) -> Option<Self> {
        (start <= last).then_some(Self {
            start: Iova::new(start),
            last: Iova::new(last),
        })
    }

    /// `bytes` from `start` on, clipped to 64 bits; `None` if `bytes` is 0.
    pub(crate) fn with_len(start: u64, bytes: u64) -> Option<Self> {
        let more = bytes.checked_sub(1)?;

        Self::new(start, start.saturating_add(more))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }
}

/// The usable windows of an address space: in ascending order, disjoint, not adjacent.
pub(crate) struct Windows(KVec<Span>);

impl Windows {
    /// No window.
    pub(crate) const fn none() -> Self {
        Self(KVec::new())
    }

    /// One window of all addresses.
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

    /// The windows.
    pub(crate) fn as_slice(&self) -> &[Span] {
        &self.0
    }

    /// Whether `range` lies in one window.
    pub(crate) fn admit(&self, range: IovaRange) -> bool {
        self.0
            .iter()
            .any(|window| window.start <= range.start() && range.last() <= window.last)
    }

    /// Removes what is outside `aperture`.
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

    /// Removes `hole`.
    pub(crate) fn exclude(&mut self, hole: Span) -> Result {
        // A hole within a window makes two of it.
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
