// SPDX-License-Identifier: GPL-2.0

//! mmap_lock of a process, and its VMAs.
//!
//! A page fault may hold mmap_lock for as long as userspace wants (userfaultfd): no lock of a
//! container may be held while waiting for it.

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
/// The current task holds the mmap_lock of `0` for reading.
pub(super) struct ReadLock<'a>(&'a MmWithUser);

impl<'a> ReadLock<'a> {
    /// Sleeps. Fails with `EINTR` on a fatal signal.
    pub(crate) fn killable(mm: &'a MmWithUser) -> Result<Self> {
        // SAFETY: `mm` is a reference.
        to_result(unsafe { bindings::pgsize_mmap_read_lock_killable(mm.as_raw()) })?;
        // INVARIANT: The lock is held.
        Ok(Self(mm))
    }

    /// The process's mm.
    pub(crate) fn mm(&self) -> &'a MmWithUser {
        self.0
    }

    /// `address` without tag bits (`untagged_addr_remote`).
    pub(super) fn untagged(&self, address: UserAddr) -> UserAddr {
        // SAFETY: `mm` is valid, and its lock is held, by the type invariant.
        UserAddr::new(unsafe { bindings::pgsize_untagged(self.0.as_raw(), address.get()) })
    }

    /// The VMA that contains `address`, which has no tag bits.
    pub(super) fn vma_at(&self, address: UserAddr) -> Option<&VmaRef> {
        // SAFETY: `mm` is valid, and its lock is held, by the type invariant.
        let vma = unsafe { bindings::pgsize_vma_at(self.0.as_raw(), address.get()) };

        // SAFETY: The VMA lives as long as the lock is held, which is longer than the borrow.
        (!vma.is_null()).then(|| unsafe { VmaRef::from_raw(vma) })
    }
}

impl Drop for ReadLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this task holds the lock for reading.
        unsafe { bindings::pgsize_mmap_read_unlock(self.0.as_raw()) };
    }
}

/// mmap_lock, held for writing.
///
/// # Invariants
///
/// The current task holds the mmap_lock of `0` for writing.
pub(super) struct WriteLock<'a>(&'a MmWithUser);

impl<'a> WriteLock<'a> {
    /// Sleeps. Fails with `EINTR` on a fatal signal.
    pub(crate) fn killable(mm: &'a MmWithUser) -> Result<Self> {
        // SAFETY: `mm` is a reference.
        to_result(unsafe { bindings::pgsize_mmap_write_lock_killable(mm.as_raw()) })?;
        // INVARIANT: The lock is held.
        Ok(Self(mm))
    }

    /// Sleeps. Not killable: for teardown.
    pub(crate) fn new(mm: &'a MmWithUser) -> Self {
        // SAFETY: `mm` is a reference.
        unsafe { bindings::pgsize_mmap_write_lock(mm.as_raw()) };
        // INVARIANT: The lock is held.
        Self(mm)
    }
}

impl Drop for WriteLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this task holds the lock for writing.
        unsafe { bindings::pgsize_mmap_write_unlock(self.0.as_raw()) };
    }
}

/// A range of user addresses whose VMAs need no check: fast GUP gives the same result as GUP there.
/// It was read under mmap_lock, and may be outdated.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plain {
    start: usize,
    end: usize,
    huge: bool,
}

impl Plain {
    /// The range around `address` and the `pages` from there on; empty if the VMA of `address` is
    /// not plain. The VMAs are either all hugetlb, or none is.
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

    /// Number of pages of the range from `address` on.
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
