// SPDX-License-Identifier: GPL-2.0

//! Numbers of containers. VFIO, debugfs and the worker have numbers instead of pointers.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;

use crate::sys::num::{
    to_u64,
    to_usize, //
};

/// Number of bits of a number.
const BITS: u32 = 47;

/// Bits that are set in the data pointer that VFIO gets for a number. Bits 63, 56 and 47 differ, so
/// the pointer is not canonical with four or five levels of page tables, with or without LAM. It is
/// neither NULL nor an `ERR_PTR` nor a pointer of another backend; a backend that dereferences it
/// faults.
const TAG: u64 = 1 << 56 | 1 << BITS;

/// The number of a container. Not used again while the module is loaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(u64);

impl Number {
    /// Less than or equal to all others.
    pub(super) const FIRST: Self = Self(0);

    /// A new number. Fails with `ENOSPC` after 2^47 numbers.
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = |number: u64| Some(number.wrapping_add(1)).filter(|next| *next <= 1 << BITS);

        match NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(number) => Ok(Self(number)),
            Err(_) => Err(ENOSPC),
        }
    }

    /// For trace events and debugfs.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The next number.
    pub(crate) fn next(self) -> Self {
        // Less than 2^47: cannot wrap.
        Self(self.0.wrapping_add(1))
    }

    /// The data pointer for VFIO and debugfs.
    pub(crate) fn to_data(self) -> *mut c_void {
        core::ptr::without_provenance_mut(to_usize(TAG | self.0))
    }

    /// The number of a data pointer, if it is one.
    pub(super) fn of_data(data: *mut c_void) -> Option<Self> {
        let data = to_u64(data.addr());

        (data >> BITS == TAG >> BITS).then_some(Self(data ^ TAG))
    }
}
