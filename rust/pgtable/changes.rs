// SPDX-License-Identifier: GPL-2.0

//! Results of edits.

use super::{
    Iova,
    IovaRange, //
};

/// Why an edit stopped. Each leaf is either the old one or a wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error<E> {
    /// [`TablePages::alloc`](super::TablePages::alloc) failed.
    Pages(E),
    /// The leaf that starts here crosses an end of the range.
    Straddles(Iova),
    /// The entry at this IOVA is unexpected: it changed, or the caller was wrong.
    Changed(Iova),
}

/// What an edit changed.
#[must_use = "if anything was touched the IOTLB is to be flushed there"]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    touched: Option<IovaRange>,
    splits: u64,
    merges: u64,
}

impl Changes {
    /// No change.
    pub const NONE: Self = Self {
        touched: None,
        splits: 0,
        merges: 0,
    };

    /// Where to flush the IOTLB before the retired tables are freed.
    pub const fn touched(&self) -> Option<IovaRange> {
        self.touched
    }

    /// Number of leaves that smaller ones replaced.
    pub const fn splits(&self) -> u64 {
        self.splits
    }

    /// Number of leaves that replaced smaller ones.
    pub const fn merges(&self) -> u64 {
        self.merges
    }

    /// The sum of both changes.
    pub fn and(self, other: Self) -> Self {
        Self {
            touched: match (self.touched, other.touched) {
                (Some(one), Some(two)) => Some(one.hull(two)),
                (one, two) => one.or(two),
            },
            splits: self.splits.saturating_add(other.splits),
            merges: self.merges.saturating_add(other.merges),
        }
    }

    pub(super) fn add_split(&mut self, range: IovaRange) {
        *self = self.and(Self {
            touched: Some(range),
            splits: 1,
            merges: 0,
        });
    }

    pub(super) fn add_merge(&mut self, range: IovaRange) {
        *self = self.and(Self {
            touched: Some(range),
            splits: 0,
            merges: 1,
        });
    }

    /// Entries were written, although the leaves are the same in the end.
    pub(super) fn add_touch(&mut self, range: IovaRange) {
        *self = self.and(Self {
            touched: Some(range),
            splits: 0,
            merges: 0,
        });
    }
}
