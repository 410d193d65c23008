// SPDX-License-Identifier: GPL-2.0

//! PFNs of VM_PFNMAP mappings: memory without a usable `struct page`, such as device registers.

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

/// The PFN at `address` in a VM_PFNMAP mapping, and how many PFNs from there on the same entry of
/// the process's page table maps. Faults the page in if necessary.
///
/// `None`: mmap_lock was dropped meanwhile, and `vma` may be gone. `address` has no tag bits.
/// Sleeps. Fails with `EFAULT` if `write` is not permitted, and as `fixup_user_fault`.
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

    // SAFETY: `args` has a VMA whose mmap_lock is held, since there is a reference to it. The
    // callee checks that the address is in it.
    if unsafe { bindings::follow_pfnmap_start(&mut args) } != 0 {
        let write = if write {
            bindings::fault_flag_FAULT_FLAG_WRITE
        } else {
            0
        };
        let mut unlocked = false;
        // SAFETY: The VMA's mm is valid, and its mmap_lock is held, before and after the call.
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
        // SAFETY: As above; mmap_lock was not dropped.
        to_result(unsafe { bindings::follow_pfnmap_start(&mut args) })?;
    }
    // The entry maps an aligned power of two of PFNs.
    let within = to_u64(!args.addr_mask) / PAGE_BYTES;
    let pfn = to_u64(args.pfn);
    let found = if write && !args.writable {
        Err(EFAULT)
    } else {
        Ok(Some((pfn, (within & !pfn).wrapping_add(1))))
    };
    // SAFETY: `follow_pfnmap_start` succeeded with these arguments.
    unsafe { bindings::follow_pfnmap_end(&mut args) };
    found
}
