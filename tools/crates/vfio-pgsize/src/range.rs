// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A range of IO virtual addresses.

use std::fmt;

/// A range of IO virtual addresses, in bytes. It may end at 2^64.
///
/// The kernel checks it: both are multiples of 4096, and the size is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IovaRange {
    /// The first address.
    pub iova: u64,
    /// The length.
    pub size: u64,
}

impl IovaRange {
    /// The range of `size` bytes from `iova` on.
    pub const fn new(iova: u64, size: u64) -> Self {
        IovaRange { iova, size }
    }

    /// The last address; `None` if the range is empty or goes beyond 2^64.
    pub const fn last(self) -> Option<u64> {
        match self.size.checked_sub(1) {
            Some(rest) => self.iova.checked_add(rest),
            None => None,
        }
    }

    /// Whether the range is of whole pages.
    pub(crate) const fn is_aligned(self) -> bool {
        self.size != 0 && (self.iova | self.size) & (PAGE - 1) == 0
    }
}

/// The granularity of all ranges.
pub(crate) const PAGE: u64 = 4096;

impl fmt::Display for IovaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} bytes at {:#x}", self.size, self.iova)
    }
}

#[cfg(test)]
mod tests {
    use super::IovaRange;

    #[test]
    fn a_range_may_end_at_2_64() {
        assert_eq!(IovaRange::new(u64::MAX - 4095, 4096).last(), Some(u64::MAX));
        assert_eq!(IovaRange::new(u64::MAX - 4095, 8192).last(), None);
        assert_eq!(IovaRange::new(0, 0).last(), None);
    }
}
