// SPDX-License-Identifier: GPL-2.0

//! Mappings that cross an end of an unmap's range.

/// What an unmap does to a mapping that crosses an end of its range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// The unmap fails with `EINVAL`.
    Refuse,
    /// It splits the mapping. The part outside stays.
    Split,
    /// It unmaps the whole mapping if that begins in the range. If it begins before the range, the
    /// unmap succeeds and unmaps nothing at all.
    Whole,
}
