// SPDX-License-Identifier: GPL-2.0

//! User-space addresses.

use crate::{
    pgtable::PAGE_BYTES,
    sys::num::to_usize, //
};

/// An address in the process whose memory is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserAddr(usize);

impl UserAddr {
    /// The address `value`.
    pub(crate) const fn new(value: usize) -> Self {
        Self(value)
    }

    /// The address as a number.
    pub(crate) const fn get(self) -> usize {
        self.0
    }

    /// The address `pages` pages higher, modulo 2^64.
    pub(crate) const fn after(self, pages: u64) -> Self {
        Self(
            self.0
                .wrapping_add(to_usize(pages.wrapping_mul(PAGE_BYTES))),
        )
    }
}
