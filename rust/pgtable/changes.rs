// SPDX-License-Identifier: GPL-2.0

//! What an edit did, and why it did not.

use super::{
    Iova,
    IovaRange, //
};

/// Why an edit stopped. Each leaf is then as it was, or as it was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error<E> {
    /// There was no table to be had.
    Pages(E),
    /// A leaf lies only in part in the range given; it starts here.
    Straddles(Iova),
    /// What is mapped here is not what it was a moment ago, or not what the caller said.
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
    /// Nothing.
    pub const NONE: Self = Self {
        touched: None,
        splits: 0,
        merges: 0,
    };

    /// Where the IOTLB is to be flushed, before retired tables are freed.
    pub const fn touched(&self) -> Option<IovaRange> {
        self.touched
    }

    /// How many leaves were replaced by smaller ones.
    pub const fn splits(&self) -> u64 {
        self.splits
    }

    /// How many leaves now stand where smaller ones stood.
    pub const fn merges(&self) -> u64 {
        self.merges
    }

    /// Both taken together.
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

    /// Something was written, though no leaf is another in the end.
    pub(super) fn add_touch(&mut self, range: IovaRange) {
        *self = self.and(Self {
            touched: Some(range),
            splits: 0,
            merges: 0,
        });
    }
}
