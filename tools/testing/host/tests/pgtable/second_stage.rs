// SPDX-License-Identifier: GPL-2.0

//! A second format, for tests only: it shows that a format can be added without other changes.
//!
//! Modelled after the second stage of Intel's VT-d. A leaf is one entry, at level 2 or lower; there
//! are four levels; an entry without permissions is absent; the hardware does not snoop the CPU
//! caches.

use pgtable_host::pgtable::{
    AdBits,
    Attrs,
    Entry,
    Format,
    LeafEntry,
    Level,
    PageSizes,
    Phys,
    Table, //
};

use crate::spec::{
    self,
    Spec,
    Word, //
};

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
/// A leaf above level 0.
const LARGE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const SNOOP: u64 = 1 << 11;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const AD_BITS: u64 = ACCESSED | DIRTY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondStage;

impl Format for SecondStage {
    const INCOHERENT: bool = true;

    fn levels(self) -> u8 {
        4
    }

    fn sizes(self) -> PageSizes {
        PageSizes::from_bits((1 << 12) | (1 << 21) | (1 << 30))
    }

    fn ad_bits(self) -> AdBits {
        AdBits::from_bits(AD_BITS)
    }

    fn dirty_bit(self) -> AdBits {
        AdBits::from_bits(DIRTY)
    }

    fn write_permission(self) -> u64 {
        WRITE
    }

    fn decode(self, raw: u64, level: Level) -> Entry {
        if raw & (READ | WRITE) == 0 {
            return Entry::Absent;
        }
        if level != Level::ZERO && raw & LARGE == 0 {
            return Entry::Table(Table::from_bits(raw));
        }
        let size = level.entry_size();
        if !self.sizes().allows(size) {
            return Entry::Absent;
        }
        Entry::Leaf(LeafEntry {
            phys: Phys::from_low_bits(raw & !size.mask()),
            size,
            attrs: Attrs::from_bits(raw & !(ADDRESS | AD_BITS | LARGE)),
            ad_bits: self.ad_bits_of(raw),
        })
    }

    fn leaf(self, leaf: LeafEntry, level: Level) -> u64 {
        let large = if level == Level::ZERO { 0 } else { LARGE };
        leaf.phys.get() | leaf.attrs.bits() | leaf.ad_bits.bits() | large
    }

    fn table(self, table: Table, _: Level) -> u64 {
        table.phys().get() | READ | WRITE
    }

    fn leaf_kind(self, raw: u64) -> u64 {
        raw & !(ADDRESS | AD_BITS)
    }

    fn attrs(self, read: bool, write: bool) -> Option<Attrs> {
        let read = if read { READ } else { 0 };
        let write = if write { WRITE } else { 0 };

        (read | write != 0).then(|| Attrs::from_bits(read | write))
    }

    fn readable(self, attrs: Attrs) -> bool {
        attrs.bits() & READ != 0
    }

    fn writable(self, attrs: Attrs) -> bool {
        attrs.bits() & WRITE != 0
    }
}

impl Spec for SecondStage {
    type Format = Self;

    const LEVELS: u8 = 4;
    const SIZES: u64 = spec::PAGE | (2 * spec::M) | spec::G;
    const READ: u64 = 1;
    const WRITE: u64 = 2;
    const DIRTY: u64 = 0x200;
    const AD_BITS: u64 = 0x300;
    const C_BITS: &'static [u64] = &[0];

    fn format(c_bit: u64) -> Self {
        assert_eq!(c_bit, 0);
        Self
    }

    fn read(word: u64, level: u8, _: u64) -> Word {
        let field = word >> 12 << 24 >> 12;
        match (word & 3, level, (word >> 7) & 1) {
            (0, _, _) => {
                assert_eq!(word, 0, "something in an entry that is absent");
                Word::Absent
            }
            (_, 0, 0) | (_, 1 | 2, 1) => {
                let lg2 = spec::shift(level);
                assert_eq!(field % (1 << lg2), 0, "reserved bits of a leaf");
                Word::Leaf(field, lg2, word & 0xfff0_0000_0000_0c7f)
            }
            (3, 1..=3, 0) => {
                assert_eq!(word & !field, 3, "a pointer with bits of leaves");
                Word::Table(field, level - 1)
            }
            _ => panic!("{word:#x} at {level} is nothing"),
        }
    }

    fn leaf(phys: u64, lg2: u32, rest: u64, level: u8) -> u64 {
        assert!(Self::has(lg2) && lg2 == spec::shift(level) && phys % (1 << lg2) == 0);
        phys + rest + if level > 0 { 0x80 } else { 0 }
    }

    fn table(phys: u64, _: u8, _: u64) -> u64 {
        phys + 3
    }
}

#[test]
fn attributes_are_those_of_what_is_mapped() {
    for (read, write) in [(true, true), (true, false), (false, true)] {
        let attrs = SecondStage.attrs(read, write).unwrap();
        assert_eq!(SecondStage.readable(attrs), read);
        assert_eq!(SecondStage.writable(attrs), write);
        let word = attrs.bits() | SNOOP | DIRTY;
        let Entry::Leaf(leaf) = SecondStage.decode(word, Level::ZERO) else {
            panic!("no leaf");
        };
        assert_eq!(leaf.attrs.bits(), attrs.bits() | SNOOP);
    }
    assert_eq!(SecondStage.attrs(false, false), None);
}

#[test]
fn its_top_is_of_four_levels_at_most() {
    let level = |levels| SecondStage.top(0x5000, levels).map(|top| top.level.get());
    assert_eq!([0, 1, 4, 5].map(level), [None, Some(0), Some(3), None]);
    let reach = SecondStage.reach(Level::new(3).unwrap());
    assert_eq!(reach.get(), (1 << 48) - 1);
}
