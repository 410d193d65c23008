// SPDX-License-Identifier: GPL-2.0

//! The entries of AMD's IOMMU page tables for host translations (format v1).
//!
//! A table is a page of 512 entries of 64 bits. An entry of a table of level `l` covers
//! 2^(12 + 9 l) bytes:
//!
//! ```text
//!  63 62 61 60 59    52 51                        12 11   9 8 7 6 5 4     1 0
//! +--+--+--+--+--------+----------------------------+------+---+-+-+-------+--+
//! |  |IW|IR|FC|        | address, C-bit under SME   | next |   |D|A|       |PR|
//! +--+--+--+--+--------+----------------------------+------+---+-+-+-------+--+
//! ```
//!
//! *next* says what the entry is: 0 a leaf that the one entry covers; 7 a leaf whose size is coded
//! in the low bits of the address (2^k - 1 pages: 2^(k + 1) pages), repeated in each of the entries
//! that it covers; any other a table of the next lower level, which the driver numbers from 1.

use super::{
    level::TOP_LEVEL,
    units::PAGE_LG2,
    Iova,
    Level,
    PageSize,
    PageSizes,
    Phys, //
};

const PRESENT: u64 = 1 << 0;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NEXT_SHIFT: u32 = 9;
const NEXT: u64 = 7 << NEXT_SHIFT;
const NEXT_SIZED: u64 = 7 << NEXT_SHIFT;
const ADDRESS: u64 = (1 << 52) - (1 << 12);
const COHERENT: u64 = 1 << 60;
const READ: u64 = 1 << 61;
const WRITE: u64 = 1 << 62;

/// The bits that the hardware may set at any moment.
pub(super) const MARKS: u64 = ACCESSED | DIRTY;

/// Every leaf size of the format: each power of two from 4K to 2^51, but not 512G, which the
/// hardware gets wrong and the driver does not offer.
pub const SIZES: PageSizes = PageSizes::from_bits(((1 << 52) - (1 << 12)) & !(1 << 39));

/// What a leaf says besides where it leads and how large it is: permissions, coherency, the C-bit
/// and all bits that mean nothing yet. Leaves that differ in it are never merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attrs(u64);

impl Attrs {
    /// Those of memory that devices may read or write. `coherent`: whatever they say, their accesses
    /// are coherent with the processors' caches. `format`: it is encrypted as tables are.
    #[inline]
    pub const fn new(read: bool, write: bool, coherent: bool, format: Format) -> Self {
        let read = if read { READ } else { 0 };
        let write = if write { WRITE } else { 0 };
        let coherent = if coherent { COHERENT } else { 0 };

        Self(read | write | coherent | format.tables)
    }

    /// Whether devices may read.
    #[inline]
    pub const fn readable(self) -> bool {
        self.0 & READ != 0
    }

    /// Whether devices may write.
    #[inline]
    pub const fn writable(self) -> bool {
        self.0 & WRITE != 0
    }
}

/// What the hardware noted in a leaf: accessed, dirty. Kept apart since it changes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marks(u64);

impl Marks {
    /// Nothing noted.
    pub const NONE: Self = Self(0);

    /// The marks of an entry.
    #[inline]
    pub const fn of(raw: u64) -> Self {
        Self(raw & MARKS)
    }

    /// What either holds.
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a device wrote through the leaf.
    #[inline]
    pub const fn dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// As bits of an entry.
    #[inline]
    pub(super) const fn bits(self) -> u64 {
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

impl Top {
    /// From `host_pt_root` and `mode` of `struct pt_iommu_amdv1_hw_info`.
    pub const fn from_hw_info(host_pt_root: u64, mode: u8) -> Option<Self> {
        let Some(phys) = Phys::new(host_pt_root) else {
            return None;
        };
        let Some(table) = Table::new(phys) else {
            return None;
        };
        let Some(level) = mode.checked_sub(1) else {
            return None;
        };
        let Some(level) = Level::new(level) else {
            return None;
        };

        Some(Self { table, level })
    }

    /// The leaf sizes that fit below this root.
    #[inline]
    pub const fn sizes(self) -> PageSizes {
        self.level.sizes_down()
    }
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
    pub marks: Marks,
}

impl LeafEntry {
    /// The tile of `size` at `at`, of this leaf, which starts at `start`.
    pub(super) const fn tile(self, start: Iova, at: Iova, size: PageSize) -> Self {
        Self {
            phys: self.phys.at(start, at),
            size,
            attrs: self.attrs,
            marks: self.marks,
        }
    }
}

/// How entries are read and written: which bit, if any, says that memory is encrypted.
///
/// The C-bit takes the place of an address bit above all that physical memory uses, so that adding
/// to an address never reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    encrypted: u64,
    tables: u64,
}

impl Format {
    /// Entries without a C-bit.
    pub const PLAIN: Self = Self {
        encrypted: 0,
        tables: 0,
    };

    /// Entries whose address may hold the C-bits `mask` (the kernel's `sme_me_mask`); pointers to
    /// tables get it set when `encrypt_tables`. `None` if `mask` is outside the address.
    pub const fn with_c_bit(mask: u64, encrypt_tables: bool) -> Option<Self> {
        if mask & !ADDRESS != 0 {
            return None;
        }
        Some(Self {
            encrypted: mask,
            tables: if encrypt_tables { mask } else { 0 },
        })
    }

    #[inline]
    const fn address(self) -> u64 {
        ADDRESS & !self.encrypted
    }

    /// What the entry `raw` of a table of `level` says. A leaf whose size does not belong to the
    /// level is none.
    #[inline]
    pub const fn decode(self, raw: u64, level: Level) -> Entry {
        if raw & PRESENT == 0 {
            return Entry::Absent;
        }

        let address = raw & self.address();
        let next = raw & NEXT;
        let (phys, size) = if next == NEXT_SIZED {
            // 2^k - 1 pages stand for 2^(k + 1).
            let ones = (address >> PAGE_LG2).trailing_ones();
            let lg2 = (ones as u8).wrapping_add(PAGE_LG2 + 1);
            let Some(size) = PageSize::from_lg2(lg2) else {
                return Entry::Absent;
            };
            if !level.sizes().allows(size) {
                return Entry::Absent;
            }
            (address & !size.mask(), size)
        } else if next == 0 || level.get() == 0 {
            if level.get() >= TOP_LEVEL {
                return Entry::Absent;
            }
            (address, level.entry_size())
        } else {
            return Entry::Table(Table(Phys::from_low_bits(address)));
        };

        Entry::Leaf(LeafEntry {
            phys: Phys::from_low_bits(phys),
            size,
            attrs: Attrs(raw & !(PRESENT | MARKS | NEXT | self.address())),
            marks: Marks::of(raw),
        })
    }

    /// What the entry `raw` of a table of `level` says, if it is a 4K leaf: the same as
    /// [`Self::decode`], at once.
    #[inline]
    pub(super) const fn decode_4k(self, raw: u64, level: Level) -> Option<LeafEntry> {
        if level.get() != 0 || raw & PRESENT == 0 || raw & NEXT == NEXT_SIZED {
            return None;
        }
        Some(LeafEntry {
            phys: Phys::from_low_bits(raw & self.address()),
            size: PageSize::SIZE_4K,
            attrs: Attrs(raw & !(PRESENT | MARKS | NEXT | self.address())),
            marks: Marks::of(raw),
        })
    }

    /// The bits that plain leaves of one table have in common if they differ in nothing but where
    /// they lead and in what the hardware noted.
    #[inline]
    pub(super) const fn likeness(self, raw: u64) -> u64 {
        raw & !(self.address() | MARKS)
    }

    /// The entry, for a table of `level`, of this leaf.
    ///
    /// `leaf.size` is one of [`Level::sizes`], and `leaf.phys` is a multiple of it.
    #[inline]
    pub const fn leaf(self, leaf: LeafEntry, level: Level) -> u64 {
        let size = leaf.size;
        let entry = PRESENT | leaf.attrs.0 | leaf.marks.0 | (leaf.phys.get() & self.address());

        if size.lg2() == level.entry_lg2() {
            entry
        } else {
            // Half the size, less a page, sets the run of ones.
            entry | NEXT_SIZED | ((size.mask() >> 1) & self.address())
        }
    }

    /// The entry, for a table one level above `level`, that leads to `table` of `level`.
    #[inline]
    pub const fn table(self, table: Table, level: Level) -> u64 {
        let next = ((level.get() as u64).wrapping_add(1)).wrapping_shl(NEXT_SHIFT);

        // The walk ANDs the permissions of all levels: the leaf's alone are to count.
        PRESENT | READ | WRITE | next | table.phys().get() | self.tables
    }
}
