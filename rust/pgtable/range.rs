// SPDX-License-Identifier: GPL-2.0

//! Address ranges. The end is inclusive, so that a range can include the last address.

use super::{
    Iova,
    PageSize,
    PAGE_BYTES, //
};

/// The 2M blocks of `range`, which consists of whole blocks.
pub fn blocks_of(range: IovaRange) -> impl Iterator<Item = IovaRange> {
    let mut left = Some(range);

    core::iter::from_fn(move || {
        let todo = left?;
        let block = IovaRange::block(todo.start(), PageSize::SIZE_2M);
        left = todo.behind(block.last());
        Some(block)
    })
}

/// The part of `range` in the aligned block of `size` where it starts.
pub fn first_piece(range: IovaRange, size: PageSize) -> IovaRange {
    range
        .intersect(IovaRange::block(range.start(), size))
        .unwrap_or(range)
}

/// A non-empty range of whole pages.
///
/// # Invariants
///
/// `start` is the first byte of a page, `last` the last byte of the same or of a later page.
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

    /// From `start` to `last`, inclusive; `None` unless these are whole pages.
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

    /// `bytes` from `start` on; `None` unless these are whole pages, and on overflow.
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

    /// The length in bytes; `None` for 2^64.
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
        // At most 2^52 pages: cannot wrap.
        (self.last.get().wrapping_sub(self.start.get()) / PAGE_BYTES).wrapping_add(1)
    }

    /// Whether `iova` is in the range.
    #[inline]
    pub const fn contains(self, iova: Iova) -> bool {
        self.start.get() <= iova.get() && iova.get() <= self.last.get()
    }

    /// Whether `other` is a part of the range.
    #[inline]
    pub const fn covers(self, other: Self) -> bool {
        self.start.get() <= other.start.get() && other.last.get() <= self.last.get()
    }

    /// The common part of both ranges.
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

    /// The part of the range from `start` on; `None` if it is empty.
    #[inline]
    pub const fn from(self, start: Iova) -> Option<Self> {
        if start.get() <= self.start.get() {
            Some(self)
        } else {
            Self::new(start, self.last)
        }
    }

    /// The part of the range behind `last`, the last byte of a page; `None` if it is empty.
    #[inline]
    pub fn behind(self, last: Iova) -> Option<Self> {
        last.next().and_then(|next| self.from(next))
    }
}

/// The start of `range`, and the address behind its end if there is one.
pub fn ends_of(range: IovaRange) -> impl Iterator<Item = Iova> {
    [Some(range.start()), range.last().next()]
        .into_iter()
        .flatten()
}
