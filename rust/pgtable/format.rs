// SPDX-License-Identifier: GPL-2.0

//! The interface between page-table formats and the code that edits page tables.
//!
//! Only the file of a format knows the bits of its entries. All formats have in common:
//!
//! - A table is a page of 512 entries of 64 bits; entries of level 0 cover 4K ([`Level`]).
//! - 0 is an absent entry.
//! - The address is not shifted: adding n bytes to the entry of a leaf makes the entry of the leaf
//!   that lies n bytes higher in memory.
//! - The hardware sets AD bits and never clears them. A leaf is dirty if any of its entries is.
//! - A leaf larger than an entry of its level is repeated, unchanged, in each entry that it covers.
//!
//! To add a format:
//!
//! - Implement [`Format`] in a file beside `amdv1.rs`.
//! - Recognize its domains in `iommu/table.rs: PageTable::of`, and pass what the driver says of the
//!   top to [`Format::top`]. Methods take `self`, so an `enum` over formats can implement
//!   [`Format`], too.
//! - If the hardware may not snoop, implement
//!   [`TablePages::write_back`](super::TablePages::write_back).

use core::fmt::Debug;

use super::{
    Iova,
    Level,
    PageSize,
    PageSizes,
    Phys, //
};

/// Encodes and decodes page-table entries.
///
/// Inline the methods that are called for each entry.
pub trait Format: Copy + Debug {
    /// Some tables of the format are read by hardware that does not snoop the CPU caches. The
    /// compiler accepts only a [`TablePages`](super::TablePages) that writes back for such a
    /// format.
    const INCOHERENT: bool;

    /// Whether the hardware reads this table without snooping the CPU caches.
    #[inline]
    fn is_incoherent(self) -> bool {
        Self::INCOHERENT
    }

    /// Maximum number of levels: 1 to 6.
    fn levels(self) -> u8;

    /// All leaf sizes. [`Level::of`] says at which level the leaves of a size are.
    fn sizes(self) -> PageSizes;

    /// The bits that the hardware may set in a leaf at any time. A bit that the driver sets in
    /// every leaf beforehand is an attribute instead.
    fn ad_bits(self) -> AdBits;

    /// The bit that the hardware sets when a device writes. It is one of [`Self::ad_bits`]; none if
    /// the hardware never sets one.
    fn dirty_bit(self) -> AdBits;

    /// The bits of a leaf that let devices write.
    fn write_permission(self) -> u64;

    /// Decodes the entry `raw` of a table of `level`. A leaf whose size does not belong to the
    /// level is absent.
    fn decode(self, raw: u64, level: Level) -> Entry;

    /// Encodes a leaf, for a table of `level`.
    ///
    /// `leaf.size` is one of [`Self::level_sizes`], and `leaf.phys` is a multiple of it.
    fn leaf(self, leaf: LeafEntry, level: Level) -> u64;

    /// Encodes a pointer to `table`, of `level`, for a table one level above. It restricts no
    /// permission.
    fn table(self, table: Table, level: Level) -> u64;

    /// The bits that are equal in leaves of one table that differ only in address and AD bits.
    fn leaf_kind(self, raw: u64) -> u64;

    /// The attributes that the driver gives to leaves of memory with these permissions; `None` if
    /// the format has no such leaves.
    fn attrs(self, read: bool, write: bool) -> Option<Attrs>;

    /// Whether devices may read through such leaves.
    fn readable(self, attrs: Attrs) -> bool;

    /// Whether devices may write through such leaves.
    fn writable(self, attrs: Attrs) -> bool;

    /// Decodes the entry `raw` of a table of `level` if it is a 4K leaf. Faster than
    /// [`Self::decode`].
    #[inline]
    fn decode_4k(self, raw: u64, level: Level) -> Option<LeafEntry> {
        match self.decode(raw, level) {
            Entry::Leaf(leaf) if leaf.size == PageSize::SIZE_4K => Some(leaf),
            _ => None,
        }
    }

    /// The highest address that a table of level `top` translates. The lowest is 0.
    #[inline]
    fn reach(self, top: Level) -> Iova {
        top.table_last(Iova::ZERO)
    }

    /// The top from what the driver says: its physical address and the number of levels. `None` if
    /// invalid.
    #[inline]
    fn top(self, root: u64, levels: u8) -> Option<Top> {
        let table = Table::new(Phys::new(root)?)?;
        let level = Level::new(levels.checked_sub(1)?)?;

        (level.get() < self.levels()).then_some(Top { table, level })
    }

    /// The leaf sizes of tables of `level`.
    #[inline]
    fn level_sizes(self, level: Level) -> PageSizes {
        self.sizes().intersect(level.sizes())
    }

    /// The leaf sizes of tables of `level` and of all lower levels.
    #[inline]
    fn sizes_down(self, level: Level) -> PageSizes {
        self.sizes().intersect(level.sizes_down())
    }

    /// The AD bits of an entry.
    #[inline]
    fn ad_bits_of(self, raw: u64) -> AdBits {
        AdBits(raw & self.ad_bits().0)
    }

    /// The entry without AD bits.
    #[inline]
    fn without_ad_bits(self, raw: u64) -> u64 {
        raw & !self.ad_bits().0
    }
}

/// The bits of a leaf other than address, size and AD bits: permissions, coherency, encryption and
/// ignored bits, in place. Leaves with different attributes are never merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attrs(u64);

impl Attrs {
    /// From bits in place.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits in place.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// The accessed and dirty bits of a leaf, in place. The hardware changes them at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdBits(u64);

impl AdBits {
    /// Neither accessed nor dirty.
    pub const NONE: Self = Self(0);

    /// From bits in place.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits that are set in either.
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits in place.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// A table page.
///
/// The creator guarantees that it is the top of a table in use, comes from
/// [`TablePages::alloc`](super::TablePages::alloc), or from an entry that points to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table(Phys);

impl Table {
    /// The table page at `phys`; `None` if that is not page-aligned.
    #[inline]
    pub const fn new(phys: Phys) -> Option<Self> {
        if phys.is_aligned(PageSize::SIZE_4K) {
            Some(Self(phys))
        } else {
            None
        }
    }

    /// The table page at the address in bits 12 to 51 of `bits`.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(Phys::from_low_bits(bits & !PageSize::SIZE_4K.mask()))
    }

    /// Its physical address.
    #[inline]
    pub const fn phys(self) -> Phys {
        self.0
    }
}

/// The top of a page table, where the IOMMU starts its walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// The table.
    pub table: Table,
    /// Its level.
    pub level: Level,
}

/// A decoded entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Not present: the IOMMU refuses the access.
    Absent,
    /// Translates.
    Leaf(LeafEntry),
    /// Points to a table of the next lower level.
    Table(Table),
}

/// A decoded leaf entry. Its IOVA follows from its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafEntry {
    /// Start of the leaf in physical memory.
    pub phys: Phys,
    /// Size of the leaf: at least that of the entry.
    pub size: PageSize,
    /// Its other bits.
    pub attrs: Attrs,
    /// Its accessed and dirty bits.
    pub ad_bits: AdBits,
}

impl LeafEntry {
    /// The part of `size` at `at` of this leaf, which starts at `start`.
    pub(super) const fn tile(self, start: Iova, at: Iova, size: PageSize) -> Self {
        Self {
            phys: self.phys.at(start, at),
            size,
            attrs: self.attrs,
            ad_bits: self.ad_bits,
        }
    }
}
