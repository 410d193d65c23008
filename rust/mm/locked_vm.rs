// SPDX-License-Identifier: GPL-2.0

//! Accounting of pinned pages: `locked_vm` of the process, limited by `RLIMIT_MEMLOCK`.

#![allow(unsafe_code)]

use core::sync::atomic::{
    AtomicU64,
    Ordering::Relaxed, //
};

use kernel::{
    error::to_result,
    mm::{
        Mm,
        MmWithUser, //
    },
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
    num::to_usize,
    testing::{
        step,
        Step, //
    }, //
};

/// The process whose memory is mapped, and the pages that are charged to it. All parts of a split
/// mapping share one.
///
/// Charging and uncharging take mmap_lock, which a page fault may hold for long: no lock of a
/// container may be held then. Released pages become spare; the next charge uses them, or
/// [`Self::settle`] uncharges them. Dropping it uncharges all.
pub(crate) struct Locked {
    mm: ARef<Mm>,
    task: ARef<Task>,
    /// The process had CAP_IPC_LOCK when it mapped: there is no limit.
    unlimited: bool,
    /// Charged and pinned.
    pages: AtomicU64,
    /// Charged but not pinned.
    spare: AtomicU64,
}

impl Locked {
    /// For the current process, with nothing charged. Fails with `ENODEV` in a kernel thread, and
    /// `ENOMEM`.
    pub(crate) fn of_current() -> Result<Arc<Self>> {
        let current = kernel::current!();
        let mm: &Mm = current.mm().ok_or(ENODEV)?;
        let locked = Self {
            mm: mm.into(),
            task: current.group_leader().into(),
            unlimited: has_no_limit(),
            pages: AtomicU64::new(0),
            spare: AtomicU64::new(0),
        };

        Ok(Arc::new(locked, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whether the current process is the one that is charged. Only its memory can be pinned.
    pub(crate) fn is_of_current(&self) -> bool {
        let current = kernel::current!();

        current
            .mm()
            .is_some_and(|mm| core::ptr::eq(mm.as_raw(), self.mm.as_raw()))
    }

    /// The process, unless it has exited.
    pub(super) fn process(&self) -> Option<ARef<MmWithUser>> {
        self.mm.mmget_not_zero()
    }

    /// Whether the current process is charged, and has CAP_IPC_LOCK or not as then.
    pub(crate) fn pays_for_current(&self) -> bool {
        self.is_of_current() && self.unlimited == has_no_limit()
    }

    /// Whether any pages are charged and pinned.
    pub(crate) fn pays(&self) -> bool {
        self.pages.load(Relaxed) != 0
    }

    /// Charges `pages`. Uses spare pages first.
    ///
    /// Takes mmap_lock for writing. Fails with `ENOMEM` beyond RLIMIT_MEMLOCK (`mm/util.c:
    /// __account_locked_vm`), which is logged, with `ESRCH` if the process is gone, and with
    /// `EINTR` on a fatal signal.
    pub(crate) fn charge(&self, pages: u64) -> Result {
        let part = self.take_spare(pages);
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

    /// Charges `pages`, or as many as are spare. Returns their number. Atomic.
    pub(crate) fn charge_spare(&self, pages: u64) -> u64 {
        let taken = self.take_spare(pages);

        self.pages.fetch_add(taken, Relaxed);
        taken
    }

    /// Takes `wanted` of the spare pages, or all that there are. Returns their number.
    fn take_spare(&self, wanted: u64) -> u64 {
        let left = |spare: u64| Some(spare.saturating_sub(wanted));
        let before = self.spare.fetch_update(Relaxed, Relaxed, left);

        before.unwrap_or(0).min(wanted)
    }

    /// Tries to have `pages` spare. Takes mmap_lock for writing. On failure, a later charge reports
    /// it.
    pub(crate) fn reserve(&self, pages: u64) {
        let spare = self.spare.load(Relaxed);

        if let Some(more) = pages.checked_sub(spare).filter(|more| *more != 0) {
            if matches!(self.account(more, true), Ok(0)) {
                self.spare.fetch_add(more, Relaxed);
            }
        }
    }

    /// Turns `pages` from pinned to spare. Atomic.
    pub(crate) fn release(&self, pages: u64) {
        self.pages.fetch_sub(pages, Relaxed);
        self.spare.fetch_add(pages, Relaxed);
    }

    /// Uncharges the spare pages. Takes mmap_lock for writing.
    pub(crate) fn settle(&self) {
        let spare = self.spare.swap(0, Relaxed);

        if spare != 0 {
            // It cannot fail: it subtracts what was added. If the process is gone there is nothing
            // to uncharge.
            let _ = self.account(spare, false);
        }
    }

    /// Changes `locked_vm` of the process. Returns 0 or a negative errno.
    fn account(&self, pages: u64, more: bool) -> Result<c_int> {
        let mm = self.process().ok_or(ESRCH)?;
        let _lock = if more {
            WriteLock::killable(&mm)?
        } else {
            WriteLock::new(&mm)
        };

        step(Step::Charges);
        // SAFETY:
        // - We hold references to `mm` and `task`.
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

/// Whether the current process has CAP_IPC_LOCK.
fn has_no_limit() -> bool {
    // SAFETY: `capable` may be called in process context.
    unsafe { bindings::capable(bindings::CAP_IPC_LOCK as i32) }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.release(self.pages.load(Relaxed));
        self.settle();
    }
}
