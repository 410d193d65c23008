// SPDX-License-Identifier: GPL-2.0

//! Conversions between integers that lose nothing on the machines that this module runs on, and an
//! error that not every kernel's `kernel::error` has.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::bindings;

kernel::static_assert!(
    usize::BITS == 64 && c_ulong::BITS == 64,
    "AMD's IOMMU wants a 64-bit kernel"
);

/// A size of memory, or an address, as a number of 64 bits.
#[inline]
pub(crate) const fn to_u64(value: usize) -> u64 {
    value as u64
}

/// A number of 64 bits as a size of memory, or as an address.
#[inline]
pub(crate) const fn to_usize(value: u64) -> usize {
    value as usize
}

/// A C `int` as a C `long`.
#[inline]
pub(crate) const fn from_i32(value: c_int) -> c_long {
    value as c_long
}

/// An index that userspace gave, if there are more than that; out of bounds it is not in a
/// misprediction either.
pub(crate) fn index_nospec(index: usize, len: usize) -> Option<usize> {
    if index >= len {
        return None;
    }
    // SAFETY: It has no requirements.
    Some(unsafe { bindings::pgsize_index_nospec(index, len) })
}

/// `EOPNOTSUPP`.
pub(crate) fn unsupported() -> Error {
    Error::from_errno(-(kernel::bindings::EOPNOTSUPP as c_int))
}
