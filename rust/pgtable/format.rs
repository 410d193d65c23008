// SPDX-License-Identifier: GPL-2.0

//! The seam between page-table formats and what is done with page tables.
//!
//! A format says what the bits of an entry mean. Nothing but its own file knows of them. What all
//! formats here have in common, and what the code above relies on:
//!
//! - A table is a page of 512 entries of 64 bits; entries of level 0 cover 4K ([`Level`]).
//! - 0 is an absent entry.
//! - An address stands in an entry where it stands in a number. So adding n bytes to the entry of a
//!   leaf makes the entry of the leaf n bytes further on in memory.
//! - The hardware sets marks, and never clears them.
//! - A leaf larger than what its level's entry covers is repeated in each entry it covers, all equal.
//!
//! To add a format:
//!
//! - here: a file beside `amdv1.rs` with an implementation of [`Format`];
//! - where domains are told apart (`iommu/table.rs: PageTable::of`): what the driver says of a table of the
//!   format ([`Format::top`]). Methods take `self`, so that a choice among formats is a format, too: an
//!   `enum` whose methods match;
//! - if the hardware may not snoop: [`TablePages::write_back`](super::TablePages::write_back).

use core::fmt::Debug;

use super::{
    Iova,
    Level,
    PageSize,
    PageSizes,
    Phys, //
};

/// How the entries of a page table are read and written.
///
/// Methods that are called for each entry are to be inlined.
pub trait Format: Copy + Debug {
    /// Some tables of the format are read by hardware that does not snoop the processors' caches.
    /// Such tables are edited with [`TablePages`](super::TablePages) that write back, or not at all:
    /// the compiler sees to it.
    const INCOHERENT: bool;

    /// The hardware does not snoop the processors' caches when it reads this table: what is stored
    /// is to be written back.
    #[inline]
    fn is_incoherent(self) -> bool {
        Self::INCOHERENT
    }

    /// How many levels a page table has at most: 1 to 6.
    fn levels(self) -> u8;

    /// All leaf sizes. In which tables leaves of a size are, the size says: see [`Level::of`].
    fn sizes(self) -> PageSizes;

    /// The bits that the hardware may set in a leaf at any moment. What the driver sets in every leaf,
    /// so that the hardware has nothing to set, is an attribute.
    fn ad_bits(self) -> AdBits;

    /// What the entry `raw` of a table of `level` says. A leaf whose size does not belong to the
    /// level is absent.
    fn decode(self, raw: u64, level: Level) -> Entry;

    /// The entry, for a table of `level`, of this leaf.
    ///
    /// `leaf.size` is one of [`Self::level_sizes`], and `leaf.phys` is a multiple of it.
    fn leaf(self, leaf: LeafEntry, level: Level) -> u64;

    /// The entry, for a table one level above `level`, that leads to `table` of `level`. It takes no
    /// permission away.
    fn table(self, table: Table, level: Level) -> u64;

    /// The bits that plain leaves of one table have in common if they differ in nothing but where
    /// they lead and in what the hardware noted.
    fn leaf_kind(self, raw: u64) -> u64;

    /// The attributes of leaves of memory that devices may read or write, as the driver gives them;
    /// `None` if there are no such leaves.
    fn attrs(self, read: bool, write: bool) -> Option<Attrs>;

    /// Whether devices may read through leaves with these attributes.
    fn readable(self, attrs: Attrs) -> bool;

    /// Whether devices may write through leaves with these attributes.
    fn writable(self, attrs: Attrs) -> bool;

    /// What the entry `raw` of a table of `level` says, if it is a 4K leaf: the same as
    /// [`Self::decode`], at once where that can be.
    #[inline]
    fn decode_4k(self, raw: u64, level: Level) -> Option<LeafEntry> {
        match self.decode(raw, level) {
            Entry::Leaf(leaf) if leaf.size == PageSize::SIZE_4K => Some(leaf),
            _ => None,
        }
    }

    /// The highest address that a page table translates whose top is of this level. The lowest is 0.
    #[inline]
    fn reach(self, top: Level) -> Iova {
        top.table_last(Iova::ZERO)
    }

    /// The root at `root` of a page table of `levels` levels: what the driver says of a table, put in
    /// the terms of all formats. `None` if there is no such table.
    #[inline]
    fn top(self, root: u64, levels: u8) -> Option<Top> {
        let table = Table::new(Phys::new(root)?)?;
        let level = Level::new(levels.checked_sub(1)?)?;

        (level.get() < self.levels()).then_some(Top { table, level })
    }

    /// The leaf sizes that tables of `level` hold.
    #[inline]
    fn level_sizes(self, level: Level) -> PageSizes {
        self.sizes().intersect(level.sizes())
    }

    /// The leaf sizes that tables of `level` and of all lower levels hold.
    #[inline]
    fn sizes_down(self, level: Level) -> PageSizes {
        self.sizes().intersect(level.sizes_down())
    }

    /// The marks of an entry.
    #[inline]
    fn ad_bits_of(self, raw: u64) -> AdBits {
        AdBits(raw & self.ad_bits().0)
    }

    /// The entry without marks.
    #[inline]
    fn without_ad_bits(self, raw: u64) -> u64 {
        raw & !self.ad_bits().0
    }
}

/// What a leaf says besides where it leads and how large it is: permissions, coherency, encryption
/// and all bits that mean nothing yet, as they stand in entries of its format. Leaves that differ in
/// it are never merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attrs(u64);

impl Attrs {
    /// These bits of an entry.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As bits of an entry.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// What the hardware noted in a leaf: accessed, dirty, as it stands in entries of its format. Kept
/// apart since it changes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdBits(u64);

impl AdBits {
    /// Nothing noted.
    pub const NONE: Self = Self(0);

    /// These bits of an entry.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// What either holds.
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As bits of an entry.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// A table page.
///
/// Whoever makes one vouches for it: it is the root of a table in use, or came out of
/// [`TablePages::alloc`](super::TablePages::alloc), or out of an entry that leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table(Phys);

impl Table {
    /// The table page at `phys`; `None` unless that is the start of a page.
    #[inline]
    pub const fn new(phys: Phys) -> Option<Self> {
        if phys.is_aligned(PageSize::SIZE_4K) {
            Some(Self(phys))
        } else {
            None
        }
    }

    /// The table page whose address bits 12 to 51 of `bits` give.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(Phys::from_low_bits(bits & !PageSize::SIZE_4K.mask()))
    }

    /// Where it is.
    #[inline]
    pub const fn phys(self) -> Phys {
        self.0
    }
}

/// A root: the table that the IOMMU starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// The root table.
    pub table: Table,
    /// Its level.
    pub level: Level,
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing: a device's access is refused.
    Absent,
    /// A translation.
    Leaf(LeafEntry),
    /// It leads to a table of the next lower level.
    Table(Table),
}

/// What a leaf's entry says. Where the leaf is follows from where the entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafEntry {
    /// Where the leaf starts in physical memory.
    pub phys: Phys,
    /// The leaf's size: that of the entry, or more.
    pub size: PageSize,
    /// What else it says.
    pub attrs: Attrs,
    /// What the hardware noted.
    pub ad_bits: AdBits,
}

impl LeafEntry {
    /// The tile of `size` at `at`, of this leaf, which starts at `start`.
    pub(super) const fn tile(self, start: Iova, at: Iova, size: PageSize) -> Self {
        Self {
            phys: self.phys.at(start, at),
            size,
            attrs: self.attrs,
            ad_bits: self.ad_bits,
        }
    }
}
