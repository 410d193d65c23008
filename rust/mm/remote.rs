// SPDX-License-Identifier: GPL-2.0

//! The memory of any process, for emulated devices: pins single pages, and copies bytes.

#![allow(unsafe_code)]

use kernel::{
    error::to_result,
    mm::{
        virt::flags,
        MmWithUser, //
    },
    prelude::*, //
};

use super::{
    locked_vm::Locked,
    mmap_lock::ReadLock,
    pfnmap::frames_at,
    pin::pin_absent,
    user_addr::UserAddr, //
};
use crate::sys::{
    bindings,
    num::to_u64, //
};

/// Pins the pages from `start` on of the process of `locked`, and fills `pages`: all, or none. They are
/// not charged. `write`: also for writing.
///
/// Takes mmap_lock. Sleeps. Fails with `ENODEV` if the process is gone, `EFAULT` if memory does not exist
/// or is not writable, `EINVAL` if frames are not memory, `ENOMEM`, and `EINTR` on a fatal signal.
pub(crate) fn pin_pages(
    locked: &Locked,
    start: UserAddr,
    pages: &mut [*mut bindings::page],
    write: bool,
) -> Result {
    let mm = locked.process().ok_or(ENODEV)?;
    let mut done = 0usize;

    while let Some(rest @ [_, ..]) = pages.get_mut(done..) {
        match pin_some(&mm, start.after(to_u64(done)), rest, write) {
            Ok(got) => done = done.saturating_add(got),
            Err(error) => {
                if let Some(pinned @ [_, ..]) = pages.get_mut(..done) {
                    // SAFETY: GUP pinned them, and nobody has seen them.
                    unsafe { bindings::unpin_user_pages(pinned.as_mut_ptr(), pinned.len()) };
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

fn pin_some(
    mm: &MmWithUser,
    start: UserAddr,
    pages: &mut [*mut bindings::page],
    write: bool,
) -> Result<usize> {
    let lock = ReadLock::killable(mm)?;

    pin_absent(&lock, pages, start, write).map_err(|refused| {
        if are_frames(&lock, start, write) {
            EINVAL
        } else {
            refused
        }
    })
}

/// Whether there are frames that are not memory, such as device registers.
fn are_frames(lock: &ReadLock<'_>, address: UserAddr, write: bool) -> bool {
    let address = lock.untagged(address);

    loop {
        let Some(vma) = lock.vma_at(address) else {
            return false;
        };
        if vma.flags() & flags::PFNMAP == 0 {
            return false;
        }
        match frames_at(vma, address, write) {
            Ok(Some(_)) => return true,
            // mmap_lock was dropped: look again.
            Ok(None) => {}
            Err(_) => return false,
        }
    }
}

/// Copies `count` bytes from `data` to `address` of the process of `locked` if `write`, else in the other
/// direction.
///
/// Sleeps. Fails with `EPERM` if the process is gone; and with `EFAULT` if memory does not exist or is not
/// writable, or the current task belongs to another process. A part may be copied then.
///
/// # Safety
///
/// `data` is valid for so many bytes.
pub(crate) unsafe fn copy(
    locked: &Locked,
    address: UserAddr,
    data: *mut c_void,
    count: usize,
    write: bool,
) -> Result {
    let mm = locked.process().ok_or(EPERM)?;

    // SAFETY: The process is there; `data` is valid by the requirement.
    to_result(unsafe {
        bindings::pgsize_copy_process(mm.as_raw(), address.get(), data, count, write)
    })
}
