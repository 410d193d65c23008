// SPDX-License-Identifier: GPL-2.0

//! Levels of page tables.

use super::{
    units::{
        to_index,
        PAGE_LG2, //
    },
    Iova,
    PageSize,
    PageSizes, //
};

const INDEX_LG2: u8 = 9;

/// A page table with this top translates all 64 bits.
const HIGHEST: u8 = 5;

/// The level of a table: 0 for the one whose entries cover 4K.
///
/// # Invariants
///
/// 0 to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// The lowest level.
    pub const ZERO: Self = Self(0);

    /// `level`, if it is 0 to 5.
    #[inline]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= HIGHEST {
            // INVARIANT: just checked.
            Some(Self(level))
        } else {
            None
        }
    }

    /// The number of the level.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The next lower level.
    #[inline]
    pub const fn below(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(level) => Some(Self(level)),
            None => None,
        }
    }

    /// The level whose tables hold leaves of `size`.
    #[inline]
    pub const fn of(size: PageSize) -> Self {
        // INVARIANT: (63 - 12) / 9 is 5.
        Self((size.lg2().wrapping_sub(PAGE_LG2)) / INDEX_LG2)
    }

    #[inline]
    pub(super) const fn entry_lg2(self) -> u8 {
        PAGE_LG2.wrapping_add(self.0.wrapping_mul(INDEX_LG2))
    }

    /// Bytes that one entry covers.
    #[inline]
    pub const fn entry_size(self) -> PageSize {
        match PageSize::from_lg2(self.entry_lg2()) {
            Some(size) => size,
            // Not reached: 12 + 5 * 9 is 57.
            None => PageSize::SIZE_4K,
        }
    }

    /// All leaf sizes that can be in tables of this level.
    #[inline]
    pub(super) const fn sizes(self) -> PageSizes {
        PageSizes::from_bits(0x1ffu64.wrapping_shl(self.entry_lg2() as u32))
    }

    /// All leaf sizes that can be in tables of this and of lower levels.
    #[inline]
    pub(super) const fn sizes_down(self) -> PageSizes {
        match Self::new(self.0.wrapping_add(1)) {
            Some(above) => PageSizes::ALL.below(above.entry_size()),
            None => PageSizes::ALL,
        }
    }

    /// The index of the entry that translates `iova`, in a table of this level.
    #[inline]
    pub const fn index(self, iova: Iova) -> usize {
        to_index(iova.get().wrapping_shr(self.entry_lg2() as u32))
    }

    /// The number of entries of a leaf of `size`: 1 to 256 if the size belongs to this level.
    #[inline]
    pub(super) const fn entries(self, size: PageSize) -> usize {
        1 << (size.lg2().saturating_sub(self.entry_lg2()) & 0xf)
    }

    /// The last address of the table of this level that translates `iova`.
    #[inline]
    pub const fn table_last(self, iova: Iova) -> Iova {
        match PageSize::from_lg2(self.entry_lg2().wrapping_add(INDEX_LG2)) {
            Some(size) => iova.align_last(size),
            None => Iova::MAX,
        }
    }
}
