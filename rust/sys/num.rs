// SPDX-License-Identifier: GPL-2.0

//! Integer conversions that are lossless on 64-bit machines, and an error that `kernel::error`
//! lacks.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::bindings;

kernel::static_assert!(
    usize::BITS == 64 && c_ulong::BITS == 64,
    "AMD's IOMMU wants a 64-bit kernel"
);

/// A `usize` as 64 bits.
#[inline]
pub(crate) const fn to_u64(value: usize) -> u64 {
    value as u64
}

/// A 64-bit number as `usize`.
#[inline]
pub(crate) const fn to_usize(value: u64) -> usize {
    value as usize
}

/// A C `int` as a C `long`.
#[inline]
pub(crate) const fn from_i32(value: c_int) -> c_long {
    value as c_long
}

/// `index` if it is less than `len`, also under speculation (`array_index_nospec`). For an index
/// from userspace.
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
