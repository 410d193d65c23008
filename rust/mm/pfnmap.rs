// SPDX-License-Identifier: GPL-2.0

//! Frames that no `struct page` counts, such as a device's registers, behind a process's memory.

#![allow(unsafe_code)]

use kernel::{
    error::to_result,
    mm::virt::VmaRef,
    prelude::*, //
};

use super::user_addr::UserAddr;
use crate::{
    pgtable::PAGE_BYTES,
    sys::{
        bindings,
        num::to_u64, //
    }, //
};

/// The frame behind an address of a VM_PFNMAP mapping, and how many follow it, itself included, in
/// the same entry of the process's page table. `None`: mmap_lock was let go meanwhile, and the VMA
/// may be gone. The address has no tag bits.
pub(super) fn frames_at(
    vma: &VmaRef,
    address: UserAddr,
    write: bool,
) -> Result<Option<(u64, u64)>> {
    let mut args = bindings::follow_pfnmap_args {
        vma: vma.as_ptr(),
        address: address.get(),
        ..Default::default()
    };

    // SAFETY: `args` names a VMA, whose mmap_lock is held for there is a reference to it. That the
    // address is in it is checked there.
    if unsafe { bindings::follow_pfnmap_start(&mut args) } != 0 {
        let write = if write {
            bindings::fault_flag_FAULT_FLAG_WRITE
        } else {
            0
        };
        let mut unlocked = false;
        // SAFETY: The VMA's mm is valid; its mmap_lock is held, and is so afterwards.
        to_result(unsafe {
            bindings::fixup_user_fault(
                vma.mm().as_raw(),
                address.get(),
                bindings::fault_flag_FAULT_FLAG_REMOTE | write,
                &mut unlocked,
            )
        })?;
        if unlocked {
            return Ok(None);
        }
        // SAFETY: As above: the lock was not let go.
        to_result(unsafe { bindings::follow_pfnmap_start(&mut args) })?;
    }
    // The entry covers an aligned power of two of frames.
    let within = to_u64(!args.addr_mask) / PAGE_BYTES;
    let pfn = to_u64(args.pfn);
    let found = if write && !args.writable {
        Err(EFAULT)
    } else {
        Ok(Some((pfn, (within & !pfn).wrapping_add(1))))
    };
    // SAFETY: It was started, with these arguments.
    unsafe { bindings::follow_pfnmap_end(&mut args) };
    found
}
