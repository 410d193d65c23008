// SPDX-License-Identifier: GPL-2.0

//! Ranges of addresses, with an inclusive end: the last one can end where addresses do.

use super::{
    Iova,
    PageSize,
    PAGE_BYTES, //
};

/// The blocks of 2M in a range that consists of them.
pub fn blocks_of(range: IovaRange) -> impl Iterator<Item = IovaRange> {
    let mut left = Some(range);

    core::iter::from_fn(move || {
        let todo = left?;
        let block = IovaRange::block(todo.start(), PageSize::SIZE_2M);
        left = todo.behind(block.last());
        Some(block)
    })
}

/// What of `range` lies in the block of `size` that it starts in.
pub fn first_piece(range: IovaRange, size: PageSize) -> IovaRange {
    range
        .intersect(IovaRange::block(range.start(), size))
        .unwrap_or(range)
}

/// A range of addresses: whole pages, at least one.
///
/// # Invariants
///
/// `start` is the first byte of a page, `last` the last byte of the same or of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IovaRange {
    start: Iova,
    last: Iova,
}

impl IovaRange {
    /// All addresses.
    pub const ALL: Self = Self {
        start: Iova::ZERO,
        last: Iova::MAX,
    };

    /// The range from `start` to `last`, the latter included; `None` unless whole pages.
    #[inline]
    pub const fn new(start: Iova, last: Iova) -> Option<Self> {
        let whole = start.get() & (PAGE_BYTES - 1) == 0 && !last.get() & (PAGE_BYTES - 1) == 0;

        if whole && start.get() <= last.get() {
            // INVARIANT: just checked.
            Some(Self { start, last })
        } else {
            None
        }
    }

    /// The range of `bytes` from `start` on; `None` unless whole pages, or if it overflows.
    #[inline]
    pub const fn with_len(start: Iova, bytes: u64) -> Option<Self> {
        match bytes.checked_sub(1) {
            Some(more) => match start.checked_add(more) {
                Some(last) => Self::new(start, last),
                None => None,
            },
            None => None,
        }
    }

    /// The aligned block of `size` that holds `iova`.
    #[inline]
    pub const fn block(iova: Iova, size: PageSize) -> Self {
        // INVARIANT: a page size is a multiple of 4096, and so is the block's start.
        Self {
            start: iova.align_down(size),
            last: iova.align_last(size),
        }
    }

    /// The first byte.
    #[inline]
    pub const fn start(self) -> Iova {
        self.start
    }

    /// The last byte.
    #[inline]
    pub const fn last(self) -> Iova {
        self.last
    }

    /// The length in bytes; `None` for all 2^64 of them.
    #[inline]
    pub const fn bytes(self) -> Option<u64> {
        self.last
            .get()
            .wrapping_sub(self.start.get())
            .checked_add(1)
    }

    /// The length in pages of 4096 bytes.
    #[inline]
    pub const fn pages(self) -> u64 {
        // Cannot wrap: there are 2^52 pages at most.
        (self.last.get().wrapping_sub(self.start.get()) / PAGE_BYTES).wrapping_add(1)
    }

    /// Whether the range holds `iova`.
    #[inline]
    pub const fn contains(self, iova: Iova) -> bool {
        self.start.get() <= iova.get() && iova.get() <= self.last.get()
    }

    /// Whether the range holds all of `other`.
    #[inline]
    pub const fn covers(self, other: Self) -> bool {
        self.start.get() <= other.start.get() && other.last.get() <= self.last.get()
    }

    /// What both ranges hold.
    #[inline]
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.last.min(other.last))
    }

    /// The smallest range that covers both.
    #[inline]
    pub fn hull(self, other: Self) -> Self {
        // INVARIANT: the bounds are bounds of ranges, and the lower start is below the higher last.
        Self {
            start: self.start.min(other.start),
            last: self.last.max(other.last),
        }
    }

    /// The range without what lies before `start`; `None` if nothing is left.
    #[inline]
    pub const fn from(self, start: Iova) -> Option<Self> {
        if start.get() <= self.start.get() {
            Some(self)
        } else {
            Self::new(start, self.last)
        }
    }

    /// The range without what lies up to `last`, the last byte of a page; `None` if nothing is left.
    #[inline]
    pub fn behind(self, last: Iova) -> Option<Self> {
        last.next().and_then(|next| self.from(next))
    }
}

/// Where `range` starts, and what comes behind it.
pub fn ends_of(range: IovaRange) -> impl Iterator<Item = Iova> {
    [Some(range.start()), range.last().next()]
        .into_iter()
        .flatten()
}
