// SPDX-License-Identifier: GPL-2.0

//! Pages that a process has locked: its `locked_vm`, against its `RLIMIT_MEMLOCK`.

#![allow(unsafe_code)]

use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::aref::ARef,
    task::Task, //
};

use crate::{
    bindings,
    num::to_usize, //
};

/// The process whose memory is mapped, and how many of its pages are charged to it.
///
/// All that is charged is given back when this is dropped.
pub(crate) struct Locked {
    mm: ARef<Mm>,
    task: ARef<Task>,
    /// The process had CAP_IPC_LOCK when it mapped: no limit.
    unlimited: bool,
    pages: u64,
}

impl Locked {
    /// Nothing charged yet, of the current process. Fails with `ENODEV` in a kernel thread.
    pub(crate) fn of_current() -> Result<Self> {
        let current = kernel::current!();
        let mm: &Mm = current.mm().ok_or(ENODEV)?;

        Ok(Self {
            mm: mm.into(),
            task: current.group_leader().into(),
            // SAFETY: `capable` has no requirements but to be called by a process.
            unlimited: unsafe { bindings::capable(bindings::CAP_IPC_LOCK as i32) },
            pages: 0,
        })
    }

    /// Charges `pages` more.
    ///
    /// Takes the process's mmap_lock for writing. Fails with `ENOMEM` if that exceeds
    /// RLIMIT_MEMLOCK (`mm/util.c: __account_locked_vm`), with `EINTR` if a fatal signal came.
    pub(crate) fn charge(&mut self, pages: u64) -> Result {
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        let _lock = WriteLock::killable(&mm)?;

        // SAFETY:
        // - `mm` and `task` are valid, for we hold references to both;
        // - mmap_lock is held for writing.
        let ret = unsafe {
            bindings::__account_locked_vm(
                mm.as_raw(),
                to_usize(pages),
                true,
                self.task.as_ptr(),
                self.unlimited,
            )
        };
        if ret == ENOMEM.to_errno() {
            pr_warn!("RLIMIT_MEMLOCK exceeded by process {}\n", self.task.pid());
        }
        kernel::error::to_result(ret)?;
        self.pages = self.pages.saturating_add(pages);
        Ok(())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if self.pages == 0 {
            return;
        }
        // A process that is gone has nothing locked.
        let Some(mm) = self.mm.mmget_not_zero() else {
            return;
        };
        let _lock = WriteLock::new(&mm);

        // SAFETY:
        // - `mm` and `task` are valid, for we hold references to both;
        // - mmap_lock is held for writing.
        //
        // It can not fail: it takes away what `charge` added.
        unsafe {
            bindings::__account_locked_vm(
                mm.as_raw(),
                to_usize(self.pages),
                false,
                self.task.as_ptr(),
                self.unlimited,
            )
        };
    }
}

/// mmap_lock, held for writing.
///
/// # Invariants
///
/// The current task holds the lock of `0` for writing.
struct WriteLock<'a>(&'a MmWithUser);

impl<'a> WriteLock<'a> {
    fn killable(mm: &'a MmWithUser) -> Result<Self> {
        // SAFETY: `mm` is valid, being a reference.
        kernel::error::to_result(unsafe {
            bindings::pgsize_mmap_write_lock_killable(mm.as_raw())
        })?;
        // INVARIANT: Just taken.
        Ok(Self(mm))
    }

    fn new(mm: &'a MmWithUser) -> Self {
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
