// SPDX-License-Identifier: GPL-2.0

//! The entry format, written down a second time and in another manner: bit by bit, from the tables
//! of the IOMMU specification, as the hardware's table walk reads it.

pub const PAGE: u64 = 4096;
pub const M: u64 = 1 << 20;
pub const G: u64 = 1 << 30;
pub const DIRTY: u64 = 1 << 6;
pub const ACCESSED: u64 = 1 << 5;
pub const MARKS: u64 = DIRTY | ACCESSED;
pub const FC: u64 = 1 << 60;
pub const IR: u64 = 1 << 61;
pub const IW: u64 = 1 << 62;

/// The lowest bit of the address that an index of a table of `level` takes.
pub fn shift(level: u8) -> u32 {
    12 + 9 * u32::from(level)
}

pub fn index(iova: u64, level: u8) -> usize {
    ((iova >> shift(level)) & 511).try_into().unwrap()
}

/// The level whose tables hold leaves of 2^`lg2` bytes.
pub fn level_of(lg2: u32) -> u8 {
    ((lg2 - 12) / 9).try_into().unwrap()
}

/// All leaf sizes of the format, as exponents.
pub fn all_sizes() -> impl Iterator<Item = u32> {
    (12..=51).filter(|lg2| *lg2 != 39)
}

/// What an entry is to the hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Absent,
    /// Address of a table, and its level.
    Table(u64, u8),
    /// First address, exponent of the size, and the rest of the bits but the marks.
    Leaf(u64, u32, u64),
}

/// Reads an entry of a table of `level`; `c_bit` says that memory is encrypted.
pub fn read(word: u64, level: u8, c_bit: u64) -> Word {
    if word & 1 == 0 {
        return Word::Absent;
    }
    let field = word & 0x000f_ffff_ffff_f000 & !c_bit;
    let rest = word & !(0x000f_ffff_ffff_f000 & !c_bit) & !MARKS & !1 & !(7 << 9);
    match (word >> 9) & 7 {
        0 => Word::Leaf(field, shift(level), rest),
        7 => {
            // The lowest 0 of the field is at the position just below that of the size.
            let mut lg2 = 13;
            while field & (1 << (lg2 - 1)) != 0 {
                lg2 += 1;
            }
            Word::Leaf(field >> lg2 << lg2, lg2, rest)
        }
        next => {
            assert_eq!(u64::from(level), next, "a table that skips a level");
            assert_eq!(
                word & (IR | IW),
                IR | IW,
                "a table that takes permissions away"
            );
            assert_eq!(word & c_bit, c_bit, "a table that is not encrypted");
            Word::Table(field, level - 1)
        }
    }
}

/// Writes a leaf for a table of `level`.
pub fn leaf(phys: u64, lg2: u32, rest: u64, level: u8) -> u64 {
    assert_eq!(phys % (1 << lg2), 0);
    let mut word = phys | rest | 1;
    if lg2 != shift(level) {
        word |= 7 << 9;
        for bit in 12..lg2 - 1 {
            word |= 1 << bit;
        }
    }
    word
}

/// Writes a pointer to a table of `level`.
pub fn table(phys: u64, level: u8, c_bit: u64) -> u64 {
    phys | c_bit | IR | IW | 1 | ((u64::from(level) + 1) << 9)
}
