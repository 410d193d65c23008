// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Sets of leaf sizes.

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use thiserror::Error;

use crate::bindings::VFIO_PGSIZE_ALL;

/// A set of leaf sizes: powers of two, in bytes.
///
/// ```
/// use vfio_pgsize::PageSizes;
///
/// let sizes = PageSizes::SIZE_4K | PageSizes::SIZE_2M;
/// assert_eq!(sizes, "4K,2M".parse()?);
/// assert_eq!(sizes.to_string(), "4K,2M");
/// assert_eq!(sizes.iter().collect::<Vec<_>>(), [4096, 2 << 20]);
/// assert_eq!("all".parse::<PageSizes>()?, PageSizes::ALL);
/// # Ok::<(), vfio_pgsize::ParseSizesError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageSizes(u64);

/// Units of 1024 bytes to the power of the index.
const UNITS: [&str; 7] = ["B", "K", "M", "G", "T", "P", "E"];

impl PageSizes {
    /// Every size of each IOMMU in the container, present and future: `VFIO_PGSIZE_ALL`.
    // bindgen reads ~0ULL as -1.
    pub const ALL: Self = PageSizes(VFIO_PGSIZE_ALL as u64);
    /// 4 KiB. Each policy has it, since memory can be fragmented.
    pub const SIZE_4K: Self = PageSizes(1 << 12);
    /// 2 MiB.
    pub const SIZE_2M: Self = PageSizes(1 << 21);
    /// 1 GiB.
    pub const SIZE_1G: Self = PageSizes(1 << 30);

    /// The set with the sizes whose bits are set: bit *n* stands for 2^*n* bytes.
    pub const fn from_bits(bits: u64) -> Self {
        PageSizes(bits)
    }

    /// The set as bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether leaves of `size` bytes are in the set.
    pub const fn contains(self, size: u64) -> bool {
        size.is_power_of_two() && self.0 & size != 0
    }

    /// The sizes that are not in `others`.
    pub const fn without(self, others: Self) -> Self {
        PageSizes(self.0 & !others.0)
    }

    /// The sizes, in bytes, in rising order.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0..u64::BITS)
            .map(|lg2| 1 << lg2)
            .filter(move |size| self.0 & size != 0)
    }
}

impl BitOr for PageSizes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        PageSizes(self.0 | other.0)
    }
}

impl fmt::Display for PageSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == PageSizes::ALL {
            return f.write_str("all");
        }
        for (index, size) in self.iter().enumerate() {
            let lg2 = size.trailing_zeros();
            let comma = if index == 0 { "" } else { "," };
            write!(
                f,
                "{comma}{}{}",
                1 << (lg2 % 10),
                UNITS[(lg2 / 10) as usize]
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for PageSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageSizes({self})")
    }
}

/// A text is no set of leaf sizes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no page size: write a power of two as 4K, 2M or 1G, or 'all'")]
pub struct ParseSizesError(String);

impl FromStr for PageSizes {
    type Err = ParseSizesError;

    /// Reads `4K,2M` or `all`. Units are B (or none), K, M, G, T, P and E.
    fn from_str(text: &str) -> Result<Self, ParseSizesError> {
        if text == "all" {
            return Ok(PageSizes::ALL);
        }
        text.split(',').try_fold(PageSizes(0), |set, word| {
            let size = parse_size(word).ok_or_else(|| ParseSizesError(word.to_owned()))?;
            Ok(set | PageSizes(size))
        })
    }
}

fn parse_size(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &word[digits.len()..] {
        "" => 0,
        unit => UNITS.iter().position(|known| *known == unit)?,
    };
    // u64 also parses "+4".
    let number = digits
        .parse::<u64>()
        .ok()
        .filter(|_| !digits.starts_with('+'))?;
    number
        .checked_mul(1 << (10 * unit))
        .filter(|size| size.is_power_of_two())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::PageSizes;

    #[test]
    fn all_is_every_bit() {
        assert_eq!(PageSizes::ALL.bits(), u64::MAX);
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in [
            "", "4K,", "3K", "4k", "K", "+4K", "0", "4KB", "16E", "alles", "-1", "4K 2M",
        ] {
            let error = text.parse::<PageSizes>().unwrap_err();
            assert!(error.to_string().contains("no page size"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_set_is_read_as_it_is_written(bits in 1u64..) {
            let sizes = PageSizes::from_bits(bits);
            prop_assert_eq!(sizes.to_string().parse(), Ok(sizes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,12}") {
            if let Ok(sizes) = text.parse::<PageSizes>() {
                prop_assert!(!sizes.is_empty());
            }
        }

        #[test]
        fn the_sizes_are_those_it_contains(bits: u64) {
            let sizes = PageSizes::from_bits(bits);
            let sum = sizes.iter().inspect(|size| assert!(sizes.contains(*size))).sum::<u64>();
            prop_assert_eq!(sum, bits);
        }
    }
}
