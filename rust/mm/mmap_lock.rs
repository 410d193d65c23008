// SPDX-License-Identifier: GPL-2.0

//! A process's mmap_lock, held; and its VMAs.
//!
//! Whoever faults memory in holds it for as long as that takes, which the memory's owner decides: no
//! lock of a container is held meanwhile.

#![allow(unsafe_code)]

use kernel::{
    error::to_result,
    mm::{
        virt::{
            flags,
            VmaRef, //
        },
        MmWithUser, //
    },
    prelude::*, //
};

use super::user_addr::UserAddr;
use crate::{
    pgtable::PAGE_BYTES,
    sys::{
        bindings,
        num::to_u64,
        sched::cond_resched, //
    }, //
};

/// mmap_lock, held for reading.
///
/// # Invariants
///
/// The current task holds the lock of `0` for reading.
pub(super) struct ReadLock<'a>(&'a MmWithUser);

impl<'a> ReadLock<'a> {
    /// Sleeps. Fails with `EINTR` if a fatal signal came.
    pub(crate) fn killable(mm: &'a MmWithUser) -> Result<Self> {
        // SAFETY: `mm` is valid, being a reference.
        to_result(unsafe { bindings::pgsize_mmap_read_lock_killable(mm.as_raw()) })?;
        // INVARIANT: Just taken.
        Ok(Self(mm))
    }

    /// Does not sleep.
    pub(super) fn try_now(mm: &'a MmWithUser) -> Option<Self> {
        // SAFETY: `mm` is valid, being a reference.
        let taken = unsafe { bindings::pgsize_mmap_read_trylock(mm.as_raw()) };

        // INVARIANT: Just taken.
        taken.then_some(Self(mm))
    }

    pub(crate) fn mm(&self) -> &'a MmWithUser {
        self.0
    }

    /// The address without tag bits.
    pub(super) fn untagged(&self, address: UserAddr) -> UserAddr {
        // SAFETY: `mm` is valid, and its lock is held, by the type invariant.
        UserAddr::new(unsafe { bindings::pgsize_untagged(self.0.as_raw(), address.get()) })
    }

    /// The VMA that holds an untagged address.
    pub(super) fn vma_at(&self, address: UserAddr) -> Option<&VmaRef> {
        // SAFETY: `mm` is valid, and its lock is held, by the type invariant.
        let vma = unsafe { bindings::pgsize_vma_at(self.0.as_raw(), address.get()) };

        // SAFETY: It stays as long as the lock is held, which is at least as long as this borrow.
        (!vma.is_null()).then(|| unsafe { VmaRef::from_raw(vma) })
    }
}

impl Drop for ReadLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held for reading, by this task.
        unsafe { bindings::pgsize_mmap_read_unlock(self.0.as_raw()) };
    }
}

/// mmap_lock, held for writing.
///
/// # Invariants
///
/// The current task holds the lock of `0` for writing.
pub(super) struct WriteLock<'a>(&'a MmWithUser);

impl<'a> WriteLock<'a> {
    /// Sleeps. Fails with `EINTR` if a fatal signal came.
    pub(crate) fn killable(mm: &'a MmWithUser) -> Result<Self> {
        // SAFETY: `mm` is valid, being a reference.
        to_result(unsafe { bindings::pgsize_mmap_write_lock_killable(mm.as_raw()) })?;
        // INVARIANT: Just taken.
        Ok(Self(mm))
    }

    pub(crate) fn new(mm: &'a MmWithUser) -> Self {
        // SAFETY: `mm` is valid, being a reference.
        unsafe { bindings::pgsize_mmap_write_lock(mm.as_raw()) };
        // INVARIANT: Just taken.
        Self(mm)
    }
}

impl Drop for WriteLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held for writing, by this task.
        unsafe { bindings::pgsize_mmap_write_unlock(self.0.as_raw()) };
    }
}

/// Memory that GUP may be asked for without a look at its VMAs, for they permit what is wanted: those
/// that were there when it was looked.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plain {
    start: usize,
    end: usize,
    huge: bool,
}

impl Plain {
    /// What there is around `address` and the `pages` from there on: none, if its own VMA is not plain.
    /// All of it is in huge pages, or none.
    pub(super) fn around(lock: &ReadLock<'_>, address: UserAddr, pages: u64, write: bool) -> Self {
        let is_plain = |vma: &&VmaRef| {
            // SAFETY: It is a VMA, and mmap_lock is held.
            unsafe { bindings::pgsize_vma_is_plain(vma.as_ptr(), write) }
        };
        let is_huge = |vma: &VmaRef| vma.flags() & flags::HUGETLB != 0;
        let Some(first) = lock.vma_at(address).filter(is_plain) else {
            return Self::default();
        };
        let huge = is_huge(first);
        let wanted = address.after(pages).get();
        let mut end = first.end();

        while end < wanted {
            let next = lock.vma_at(UserAddr::new(end)).filter(is_plain);
            match next.filter(|next| is_huge(next) == huge) {
                Some(next) => end = next.end(),
                None => break,
            }
            cond_resched();
        }
        Self {
            start: first.start(),
            end,
            huge,
        }
    }

    /// How many pages there are from `address` on.
    pub(super) fn pages_from(&self, address: UserAddr) -> u64 {
        if address.get() < self.start {
            return 0;
        }
        to_u64(self.end.saturating_sub(address.get())) / PAGE_BYTES
    }

    pub(super) fn is_huge(&self) -> bool {
        self.huge
    }
}
