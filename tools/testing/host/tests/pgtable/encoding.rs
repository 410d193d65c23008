// SPDX-License-Identifier: GPL-2.0

//! Entries, against the examples of the specification and an independent implementation of it.

use pgtable_host::pgtable::{
    AmdV1,
    Entry,
    Format,
    Level,
    PageSize,
    Phys, //
};

use crate::spec::{
    self,
    Spec,
    Word,
    FC,
    IR,
    IW, //
};

fn level(level: u8) -> Level {
    Level::new(level).unwrap()
}

/// The entry that the core writes for this leaf, based on one that it reads.
fn encode(format: AmdV1, phys: u64, lg2: u32, rest: u64, at: u8) -> u64 {
    let Entry::Leaf(mut leaf) = format.decode(rest | 1, Level::ZERO) else {
        panic!("no leaf");
    };
    leaf.phys = Phys::new(phys).unwrap();
    leaf.size = PageSize::from_lg2(lg2.try_into().unwrap()).unwrap();
    format.leaf(leaf, level(at))
}

/// "Example Page Size Encodings" of the AMD IOMMU specification: bits 20 to 12 and above of the
/// address, and the size that they encode with next level 7.
#[test]
fn examples_of_the_specification() {
    for (low, lg2, at) in [
        (0x0, 13, 0),         // 8K:  address bit 12 is 0
        (0x1000, 14, 0),      // 16K: 01
        (0x3000, 15, 0),      // 32K: 011
        (0x7000, 16, 0),      // 64K
        (0x7_f000, 20, 0),    // 1M
        (0x1f_f000, 22, 1),   // 4M
        (0x7fff_f000, 32, 2), // 4G
        (0x1f_ffff_f000, 38, 2),
        (0x7f_ffff_f000, 40, 3),
    ] {
        let phys = 1u64 << 45;
        let word = phys | low | (7 << 9) | IR | IW | 1;
        let Entry::Leaf(leaf) = AmdV1::PLAIN.decode(word, level(at)) else {
            panic!("{word:#x} is a leaf");
        };
        assert_eq!((leaf.phys.get(), u32::from(leaf.size.lg2())), (phys, lg2));
        assert_eq!(AmdV1::PLAIN.leaf(leaf, level(at)), word);
    }
}

#[test]
fn every_leaf_of_every_level_is_read_and_written_alike() {
    for c_bit in [0, 1 << 47, 1 << 51] {
        let format = AmdV1::with_c_bit(c_bit, true).unwrap();
        // The C-bit is above all of memory, so no leaf reaches it.
        let fits = |lg2: &u32| c_bit == 0 || *lg2 <= c_bit.trailing_zeros();
        for lg2 in spec::all_sizes().filter(fits) {
            let at = spec::level_of(lg2);
            for rest in [
                IR,
                IW,
                IR | IW,
                IR | IW | FC,
                IR | c_bit,
                IR | (1 << 63) | (1 << 7),
                0,
            ] {
                for n in [0u64, 1, 2, 3, 511, 512, 0xaaaa, 0x5555] {
                    let Some(phys) = n.checked_shl(lg2).filter(|phys| phys >> lg2 == n) else {
                        continue;
                    };
                    if phys >= 1 << 52 || phys & c_bit != 0 {
                        continue;
                    }
                    let word = spec::AmdV1::leaf(phys, lg2, rest, at);
                    assert_eq!(encode(format, phys, lg2, rest, at), word);
                    for ad_bits in [0, spec::DIRTY, spec::ACCESSED, spec::AD_BITS] {
                        let Entry::Leaf(leaf) = format.decode(word | ad_bits, level(at)) else {
                            panic!("{word:#x} at {at} is a leaf");
                        };
                        assert_eq!((leaf.phys.get(), u32::from(leaf.size.lg2())), (phys, lg2));
                        assert_eq!(format.readable(leaf.attrs), rest & IR != 0);
                        assert_eq!(format.writable(leaf.attrs), rest & IW != 0);
                        assert_eq!(leaf.ad_bits.bits(), ad_bits);
                        assert_eq!(format.leaf(leaf, level(at)), word | ad_bits);
                        assert_eq!(
                            spec::AmdV1::read(word, at, c_bit),
                            Word::Leaf(phys, lg2, rest)
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn attributes_differ_where_any_bit_but_address_size_and_marks_does() {
    let attrs = |word: u64| match AmdV1::PLAIN.decode(word | 1, Level::ZERO) {
        Entry::Leaf(leaf) => leaf.attrs,
        other => panic!("{other:?}"),
    };
    for bit in 1..64u32 {
        let counts = !matches!(bit, 5 | 6 | 9..=11 | 12..=51);
        assert_eq!(attrs(IR) != attrs(IR ^ (1 << bit)), counts, "bit {bit}");
    }
}

#[test]
fn tables_are_read_and_written_alike() {
    for c_bit in [0, 1 << 47] {
        let format = AmdV1::with_c_bit(c_bit, true).unwrap();
        for below in 0..5 {
            let word = spec::AmdV1::table(0x1234_5000, below, c_bit);
            let Entry::Table(table) = format.decode(word, level(below + 1)) else {
                panic!("{word:#x} is a table");
            };
            assert_eq!(table.phys().get(), 0x1234_5000);
            assert_eq!(format.table(table, level(below)), word);
        }
    }
    let plain_tables = AmdV1::with_c_bit(1 << 47, false).unwrap();
    let word = spec::AmdV1::table(0x5000, 0, 0);
    let Entry::Table(table) = plain_tables.decode(word, level(1)) else {
        panic!("{word:#x} is a table");
    };
    assert_eq!(plain_tables.table(table, Level::ZERO), word);
    assert!(AmdV1::with_c_bit(1 << 52, true).is_none());
    assert!(AmdV1::with_c_bit(1 << 11, true).is_none());
}

#[test]
fn what_is_no_leaf_is_not_taken_for_one() {
    assert_eq!(AmdV1::PLAIN.decode(!1, Level::ZERO), Entry::Absent);
    // The highest level holds no leaf, plain or sized.
    assert_eq!(AmdV1::PLAIN.decode(IR | 1, level(5)), Entry::Absent);
    assert_eq!(
        AmdV1::PLAIN.decode(0x000f_ffff_ffff_fe01, level(5)),
        Entry::Absent
    );
    // A size of another level, or invalid. (2M, 1G ... are sizes of single entries that can also be
    // encoded.)
    for lg2 in 13..=53 {
        for at in 0..=5 {
            let word = (7 << 9) | ((1u64 << (lg2 - 1)) - 1) & 0x000f_ffff_ffff_f000 | 1;
            let belongs = spec::all_sizes().any(|size| size == lg2) && spec::level_of(lg2) == at;
            let wanted = belongs.then(|| u8::try_from(lg2).unwrap());
            let found = match AmdV1::PLAIN.decode(word, level(at)) {
                Entry::Leaf(leaf) => Some(leaf.size.lg2()),
                Entry::Absent => None,
                Entry::Table(_) => panic!("{word:#x} is no table"),
            };
            assert_eq!(found, wanted, "2^{lg2} at {at}");
        }
    }
}

/// As in the driver's `amdv1pt_load_entry_raw`.
#[test]
fn next_level_tells_leaves_from_tables() {
    for at in 0..=5u8 {
        for next in 0..7u64 {
            let address = (0x1234_5000 << (9 * at)) & 0x000f_ffff_ffff_f000;
            let word = address | (next << 9) | IR | 1;
            assert_eq!(AmdV1::PLAIN.decode(word & !1, level(at)), Entry::Absent);
            match AmdV1::PLAIN.decode(word, level(at)) {
                Entry::Leaf(leaf) => {
                    assert!(at < 5 && (at == 0 || next == 0), "next {next} at {at}");
                    assert_eq!(u32::from(leaf.size.lg2()), spec::shift(at));
                    assert_eq!(leaf.phys.get(), address);
                }
                Entry::Table(table) => {
                    assert!(at > 0 && next > 0, "next {next} at {at}");
                    assert_eq!(table.phys().get(), address);
                }
                Entry::Absent => assert!(at == 5 && next == 0, "next {next} at {at}"),
            }
        }
    }
}

#[test]
fn levels_cover_nine_bits_each() {
    assert_eq!(Level::new(6), None);
    for at in 0..=5 {
        assert_eq!(u32::from(level(at).entry_size().lg2()), spec::shift(at));
        let sizes = spec::all_sizes().filter(|lg2| spec::level_of(*lg2) == at);
        let bits = sizes.fold(0, |bits, lg2| bits | (1u64 << lg2));
        assert_eq!(AmdV1::PLAIN.level_sizes(level(at)).bits(), bits);
        let down = spec::all_sizes().filter(|lg2| spec::level_of(*lg2) <= at);
        let bits = down.fold(0, |bits, lg2| bits | (1u64 << lg2));
        assert_eq!(AmdV1::PLAIN.sizes_down(level(at)).bits(), bits);
    }
    assert!(
        !AmdV1::PLAIN.sizes().allows(PageSize::from_lg2(39).unwrap()),
        "the hardware gets 512G wrong"
    );
    let top = |root, mode| AmdV1::PLAIN.top(root, mode);
    assert_eq!(top(0x5000, 3).unwrap().level, level(2));
    assert_eq!(top(0x5000, 0), None);
    assert_eq!(top(0x5000, 7), None);
    assert_eq!(top(0x5001, 3), None);
}
