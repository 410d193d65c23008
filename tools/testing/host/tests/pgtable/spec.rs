// SPDX-License-Identifier: GPL-2.0

//! A second, independent implementation of the formats, as the hardware's table walk reads entries;
//! AMD's format is written from the tables of the IOMMU specification.

use std::fmt::Debug;

use pgtable_host::pgtable::{
    self,
    Format, //
};

pub const PAGE: u64 = 4096;
pub const M: u64 = 1 << 20;
pub const G: u64 = 1 << 30;

/// The lowest address bit of the index into a table of `level`.
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

/// A decoded entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Absent,
    /// Address and level of a table.
    Table(u64, u8),
    /// First address, exponent of the size, and all other bits except the AD bits.
    Leaf(u64, u32, u64),
}

/// A format.
pub trait Spec: Copy + Debug + 'static {
    /// The core's implementation.
    type Format: Format;

    /// Its levels.
    const LEVELS: u8;
    /// Its leaf sizes, one bit for each size.
    const SIZES: u64;
    /// A leaf that devices may read.
    const READ: u64;
    /// A leaf that devices may write.
    const WRITE: u64;
    /// The dirty bit.
    const DIRTY: u64;
    /// The AD bits.
    const AD_BITS: u64;
    /// C-bits: each is a variant of the format. 0: none.
    const C_BITS: &'static [u64];

    /// The variant with this C-bit.
    fn format(c_bit: u64) -> Self::Format;

    /// Decodes an entry of a table of `level`.
    fn read(word: u64, level: u8, c_bit: u64) -> Word;

    /// Encodes a leaf for a table of `level`.
    fn leaf(phys: u64, lg2: u32, rest: u64, level: u8) -> u64;

    /// Encodes a pointer to a table of `level`.
    fn table(phys: u64, level: u8, c_bit: u64) -> u64;

    /// Whether the format has leaves of 2^`lg2` bytes.
    fn has(lg2: u32) -> bool {
        Self::SIZES & (1 << lg2) != 0
    }
}

pub const DIRTY: u64 = 1 << 6;
pub const ACCESSED: u64 = 1 << 5;
pub const AD_BITS: u64 = DIRTY | ACCESSED;
pub const FC: u64 = 1 << 60;
pub const IR: u64 = 1 << 61;
pub const IW: u64 = 1 << 62;

/// All leaf sizes of AMD's format, as exponents.
pub fn all_sizes() -> impl Iterator<Item = u32> {
    (12..=51).filter(|lg2| *lg2 != 39)
}

/// AMD's host format, version 1.
#[derive(Debug, Clone, Copy)]
pub struct AmdV1;

impl Spec for AmdV1 {
    type Format = pgtable::AmdV1;

    const LEVELS: u8 = 6;
    const SIZES: u64 = 0x000f_ff7f_ffff_f000;
    const READ: u64 = IR;
    const WRITE: u64 = IW;
    const DIRTY: u64 = DIRTY;
    const AD_BITS: u64 = AD_BITS;
    const C_BITS: &'static [u64] = &[0, 1 << 47];

    fn format(c_bit: u64) -> pgtable::AmdV1 {
        pgtable::AmdV1::with_c_bit(c_bit, true).unwrap()
    }

    fn read(word: u64, level: u8, c_bit: u64) -> Word {
        if word & 1 == 0 {
            return Word::Absent;
        }
        let field = word & 0x000f_ffff_ffff_f000 & !c_bit;
        let rest = word & !(0x000f_ffff_ffff_f000 & !c_bit) & !AD_BITS & !1 & !(7 << 9);
        match (word >> 9) & 7 {
            0 => Word::Leaf(field, shift(level), rest),
            7 => {
                // The lowest 0 bit of the field is just below the position of the size.
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

    fn leaf(phys: u64, lg2: u32, rest: u64, level: u8) -> u64 {
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

    fn table(phys: u64, level: u8, c_bit: u64) -> u64 {
        phys | c_bit | IR | IW | 1 | ((u64::from(level) + 1) << 9)
    }
}

/// Instantiates generic tests for each format.
#[macro_export]
macro_rules! for_each_format {
    ($($test:ident,)+) => {
        mod amdv1 {
            $(
                #[test]
                fn $test() {
                    super::$test::<$crate::spec::AmdV1>();
                }
            )+
        }

        mod second_stage {
            $(
                #[test]
                fn $test() {
                    super::$test::<$crate::second_stage::SecondStage>();
                }
            )+
        }
    };
}
