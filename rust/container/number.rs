// SPDX-License-Identifier: GPL-2.0

//! The numbers of containers: VFIO, debugfs and the worker have these, and no pointers.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;

use crate::sys::num::{
    to_u64,
    to_usize, //
};

/// Numbers have no more bits than this.
const BITS: u32 = 47;

/// What VFIO is given has these bits beside the number: bits 63, 56 and 47 differ, which makes it an
/// address that no processor translates, with four levels of page tables or five, whichever upper
/// bits it ignores (LAM). It is not NULL, no `ERR_PTR`, and no pointer of another backend's; a
/// backend that takes it for its own faults at once.
const TAG: u64 = 1 << 56 | 1 << BITS;

/// A container's number: no two ever have the same while the module is loaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(u64);

impl Number {
    /// Before all others.
    pub(super) const FIRST: Self = Self(0);

    /// One that nothing had before. Fails with `ENOSPC` when all are used up.
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = |number: u64| Some(number.wrapping_add(1)).filter(|next| *next <= 1 << BITS);

        match NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(number) => Ok(Self(number)),
            Err(_) => Err(ENOSPC),
        }
    }

    /// As it goes in traces and in debugfs.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The next in their order.
    pub(crate) fn next(self) -> Self {
        // It is less than 2^47.
        Self(self.0.wrapping_add(1))
    }

    /// What VFIO and debugfs are given for it, and hand back.
    pub(crate) fn to_data(self) -> *mut c_void {
        core::ptr::without_provenance_mut(to_usize(TAG | self.0))
    }

    /// The number that what is handed back stands for, if it is one.
    pub(super) fn of_data(data: *mut c_void) -> Option<Self> {
        let data = to_u64(data.addr());

        (data >> BITS == TAG >> BITS).then_some(Self(data ^ TAG))
    }
}
