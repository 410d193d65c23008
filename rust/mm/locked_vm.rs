// SPDX-License-Identifier: GPL-2.0

//! Pages that a process has locked: its `locked_vm`, against its `RLIMIT_MEMLOCK`.

#![allow(unsafe_code)]

use core::sync::atomic::{
    AtomicU64,
    Ordering::Relaxed, //
};

use kernel::{
    error::to_result,
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    task::Task, //
};

use super::mmap_lock::WriteLock;
use crate::sys::{
    bindings,
    num::to_usize, //
};

/// The process whose memory is mapped, and how many of its pages are charged to it. Mappings that
/// were one have one in common.
///
/// To charge and to give back takes mmap_lock, which whoever faults memory in may hold for long: no
/// lock of a container is held then. What is released is spare, for the next charge, until it is
/// [settled](Self::settle). All goes back when this is dropped.
pub(crate) struct Locked {
    mm: ARef<Mm>,
    task: ARef<Task>,
    /// The process had CAP_IPC_LOCK when it mapped: no limit.
    unlimited: bool,
    /// Charged and in use.
    pages: AtomicU64,
    /// Charged, and in no use.
    spare: AtomicU64,
}

impl Locked {
    /// Nothing charged yet, of the current process. Fails with `ENODEV` in a kernel thread.
    pub(crate) fn of_current() -> Result<Arc<Self>> {
        let current = kernel::current!();
        let mm: &Mm = current.mm().ok_or(ENODEV)?;
        let locked = Self {
            mm: mm.into(),
            task: current.group_leader().into(),
            // SAFETY: `capable` has no requirements but to be called by a process.
            unlimited: unsafe { bindings::capable(bindings::CAP_IPC_LOCK as i32) },
            pages: AtomicU64::new(0),
            spare: AtomicU64::new(0),
        };

        Ok(Arc::new(locked, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whether it is of the current process: the one whose memory can be pinned.
    pub(crate) fn is_of_current(&self) -> bool {
        let current = kernel::current!();

        current
            .mm()
            .is_some_and(|mm| core::ptr::eq(mm.as_raw(), self.mm.as_raw()))
    }

    /// Charges `pages` more; spare ones first.
    ///
    /// Takes the process's mmap_lock for writing. Fails with `ENOMEM` if that exceeds
    /// RLIMIT_MEMLOCK (`mm/util.c: __account_locked_vm`), which is logged, and with `EINTR` if a fatal
    /// signal came.
    pub(super) fn charge(&self, pages: u64) -> Result {
        let part = self.take_spare(|spare| Some(pages.min(spare)));
        let more = pages.saturating_sub(part);

        if more != 0 {
            let charged = self.account(more, true).and_then(to_result);
            if let Err(error) = charged {
                self.spare.fetch_add(part, Relaxed);
                if error == ENOMEM {
                    // SAFETY: It may be called from anywhere.
                    unsafe { bindings::pgsize_warn_memlock(self.task.pid()) };
                }
                return Err(error);
            }
        }
        self.pages.fetch_add(pages, Relaxed);
        Ok(())
    }

    /// Charges `pages` more if so many are spare; does not sleep. Says whether it did.
    pub(crate) fn charge_spare(&self, pages: u64) -> bool {
        let taken = self.take_spare(|spare| (spare >= pages).then_some(pages));

        self.pages.fetch_add(taken, Relaxed);
        taken == pages
    }

    /// Takes as many of the spare pages as `wanted` says of their number. Returns how many.
    fn take_spare(&self, wanted: impl Fn(u64) -> Option<u64>) -> u64 {
        let left = |spare: u64| spare.checked_sub(wanted(spare)?);
        let before = self.spare.fetch_update(Relaxed, Relaxed, left);

        before.ok().and_then(wanted).unwrap_or(0)
    }

    /// Has `pages` spare, if that can be had. Takes mmap_lock.
    pub(crate) fn reserve(&self, pages: u64) {
        let spare = self.spare.load(Relaxed);

        if let Some(more) = pages.checked_sub(spare).filter(|more| *more != 0) {
            if matches!(self.account(more, true), Ok(0)) {
                self.spare.fetch_add(more, Relaxed);
            }
        }
    }

    /// `pages` are in use no more. Does not sleep.
    pub(crate) fn release(&self, pages: u64) {
        self.pages.fetch_sub(pages, Relaxed);
        self.spare.fetch_add(pages, Relaxed);
    }

    /// Gives back what is spare. Takes mmap_lock.
    pub(crate) fn settle(&self) {
        let spare = self.spare.swap(0, Relaxed);

        if spare != 0 {
            // A process that is gone has nothing locked; and it can not fail, for it takes away
            // what was added.
            let _ = self.account(spare, false);
        }
    }

    /// Changes the process's `locked_vm`, and says how that went: 0, or a negative error number.
    fn account(&self, pages: u64, more: bool) -> Result<c_int> {
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        let _lock = if more {
            WriteLock::killable(&mm)?
        } else {
            WriteLock::new(&mm)
        };

        // SAFETY:
        // - `mm` and `task` are valid, for we hold references to both;
        // - mmap_lock is held for writing.
        Ok(unsafe {
            bindings::__account_locked_vm(
                mm.as_raw(),
                to_usize(pages),
                more,
                self.task.as_ptr(),
                self.unlimited,
            )
        })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.release(self.pages.load(Relaxed));
        self.settle();
    }
}
