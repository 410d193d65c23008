// SPDX-License-Identifier: GPL-2.0

//! Page-table entries of AMD's IOMMU for host translations, format v1.
//!
//! Source: AMD I/O Virtualization Technology (IOMMU) Specification, 2.2.3 "I/O Page Tables for Host
//! Translations", and `drivers/iommu/generic_pt/fmt/amdv1.h`.
//!
//! A table is a page of 512 entries of 64 bits. An entry of level `l` covers 2^(12 + 9 l) bytes:
//!
//! ```text
//!  63 62 61 60 59    52 51                        12 11   9 8 7 6 5 4     1 0
//! +--+--+--+--+--------+----------------------------+------+---+-+-+-------+--+
//! |  |IW|IR|FC|        | address, C-bit under SME   | next |   |D|A|       |PR|
//! +--+--+--+--+--------+----------------------------+------+---+-+-+-------+--+
//! ```
//!
//! *next*: 0 is a leaf of the entry's size. 7 is a leaf whose size is coded in the low address bits
//! (2^k - 1 pages stand for 2^(k + 1) pages) and which is repeated in every entry that it covers.
//! Any other value points to a table of the next lower level; the hardware counts levels from 1.

use super::{
    units::PAGE_LG2,
    AdBits,
    Attrs,
    Entry,
    Format,
    LeafEntry,
    Level,
    PageSize,
    PageSizes,
    Phys,
    Table, //
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

const AD_BITS: u64 = ACCESSED | DIRTY;

/// The highest level. It holds no leaves.
const TOP_LEVEL: u8 = 5;

/// Each power of two from 4K to 2^51, except 512G: hardware does not support it
/// (`generic_pt/fmt/amdv1.h: amdv1pt_possible_sizes`).
const SIZES: PageSizes = PageSizes::from_bits(((1 << 52) - (1 << 12)) & !(1 << 39));

/// The format, with the parameters that differ between tables: the C-bit, and common bits of
/// leaves.
///
/// The C-bit lies above all physical address bits, so adding to an address never carries into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmdV1 {
    /// Mask of the C-bit.
    encrypted: u64,
    /// Bits that every new leaf has besides permissions. Pointers to tables get the C-bit of them.
    common: u64,
}

impl AmdV1 {
    /// No C-bit.
    pub const PLAIN: Self = Self {
        encrypted: 0,
        common: 0,
    };

    /// Addresses may hold the C-bit `mask` (the kernel's `sme_me_mask`). Table pointers and new
    /// leaves have it set if `encrypt_tables`. `None` if `mask` is outside the address bits.
    pub const fn with_c_bit(mask: u64, encrypt_tables: bool) -> Option<Self> {
        if mask & !ADDRESS != 0 {
            return None;
        }
        Some(Self {
            encrypted: mask,
            common: if encrypt_tables { mask } else { 0 },
        })
    }

    /// The same format, whose new leaves set or clear FC (force coherence) regardless of the
    /// device.
    pub const fn force_coherence(self, coherent: bool) -> Self {
        Self {
            common: self.common & ADDRESS | if coherent { COHERENT } else { 0 },
            ..self
        }
    }

    #[inline]
    const fn address(self) -> u64 {
        ADDRESS & !self.encrypted
    }

    /// The bits of leaf `raw` other than present, AD bits, next and address.
    #[inline]
    const fn attrs_of(self, raw: u64) -> Attrs {
        Attrs::from_bits(raw & !(PRESENT | AD_BITS | NEXT | self.address()))
    }
}

impl Format for AmdV1 {
    const INCOHERENT: bool = false;

    #[inline]
    fn levels(self) -> u8 {
        TOP_LEVEL + 1
    }

    #[inline]
    fn sizes(self) -> PageSizes {
        SIZES
    }

    #[inline]
    fn ad_bits(self) -> AdBits {
        AdBits::from_bits(AD_BITS)
    }

    #[inline]
    fn dirty_bit(self) -> AdBits {
        AdBits::from_bits(DIRTY)
    }

    #[inline]
    fn write_permission(self) -> u64 {
        WRITE
    }

    #[inline]
    fn decode(self, raw: u64, level: Level) -> Entry {
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
            if !self.level_sizes(level).allows(size) {
                return Entry::Absent;
            }
            (address & !size.mask(), size)
        } else if next == 0 || level.get() == 0 {
            if level.get() >= TOP_LEVEL {
                return Entry::Absent;
            }
            (address, level.entry_size())
        } else {
            return Entry::Table(Table::from_bits(address));
        };

        Entry::Leaf(LeafEntry {
            phys: Phys::from_low_bits(phys),
            size,
            attrs: self.attrs_of(raw),
            ad_bits: self.ad_bits_of(raw),
        })
    }

    #[inline]
    fn decode_4k(self, raw: u64, level: Level) -> Option<LeafEntry> {
        if level.get() != 0 || raw & PRESENT == 0 || raw & NEXT == NEXT_SIZED {
            return None;
        }
        Some(LeafEntry {
            phys: Phys::from_low_bits(raw & self.address()),
            size: PageSize::SIZE_4K,
            attrs: self.attrs_of(raw),
            ad_bits: self.ad_bits_of(raw),
        })
    }

    #[inline]
    fn leaf_kind(self, raw: u64) -> u64 {
        raw & !(self.address() | AD_BITS)
    }

    #[inline]
    fn leaf(self, leaf: LeafEntry, level: Level) -> u64 {
        let size = leaf.size;
        let entry =
            PRESENT | leaf.attrs.bits() | leaf.ad_bits.bits() | (leaf.phys.get() & self.address());

        if size.lg2() == level.entry_lg2() {
            entry
        } else {
            // Half the size, less a page, sets the run of ones.
            entry | NEXT_SIZED | ((size.mask() >> 1) & self.address())
        }
    }

    #[inline]
    fn table(self, table: Table, level: Level) -> u64 {
        let next = (u64::from(level.get()).wrapping_add(1)).wrapping_shl(NEXT_SHIFT);

        // The walk ANDs the permissions of all levels, so only the leaf restricts them.
        PRESENT | READ | WRITE | next | table.phys().get() | (self.common & self.encrypted)
    }

    #[inline]
    fn attrs(self, read: bool, write: bool) -> Option<Attrs> {
        let read = if read { READ } else { 0 };
        let write = if write { WRITE } else { 0 };

        Some(Attrs::from_bits(read | write | self.common))
    }

    #[inline]
    fn readable(self, attrs: Attrs) -> bool {
        attrs.bits() & READ != 0
    }

    #[inline]
    fn writable(self, attrs: Attrs) -> bool {
        attrs.bits() & WRITE != 0
    }
}
