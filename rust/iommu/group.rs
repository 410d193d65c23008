// SPDX-License-Identifier: GPL-2.0

//! IOMMU groups: what they ask of an address space, and whether their interrupts are isolated.

#![allow(unsafe_code)]

use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};

use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*, //
};

use super::windows::Span;
use crate::sys::{
    bindings,
    num::to_u64, //
};

/// A group that VFIO holds for us: from attach to detach.
///
/// # Invariants
///
/// The pointer is valid as long as this exists: VFIO attaches a group, and detaches it or releases
/// the container before the group goes (`drivers/vfio/container.c`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group(NonNull<bindings::iommu_group>);

// SAFETY: The IOMMU core's functions on groups may be called from any thread.
unsafe impl Send for Group {}

impl Group {
    /// # Safety
    ///
    /// `group` is one that VFIO attaches, and the result is not kept beyond its detachment or the
    /// release of the container.
    pub(crate) unsafe fn new(group: NonNull<bindings::iommu_group>) -> Self {
        // INVARIANT: By the requirement.
        Self(group)
    }

    pub(crate) fn as_ptr(self) -> *mut bindings::iommu_group {
        self.0.as_ptr()
    }

    /// Whether no device of the group can raise another's interrupts.
    pub(crate) fn has_isolated_msi(self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::iommu_group_has_isolated_msi(self.as_ptr()) }
    }

    /// A new domain, of the kind that the group's first device wants.
    pub(super) fn alloc_domain(self) -> Result<NonNull<bindings::iommu_domain>> {
        let mut domain: *mut bindings::iommu_domain = ENODEV.to_ptr();

        // SAFETY: By the type invariant; `alloc_for` is given the pointer that it wants.
        unsafe {
            bindings::iommu_group_for_each_dev(
                self.as_ptr(),
                (&raw mut domain).cast(),
                Some(alloc_for),
            )
        };
        NonNull::new(from_err_ptr(domain)?).ok_or(ENODEV)
    }

    /// Calls `each` with every range of IOVAs that the group's devices do not translate, or want for
    /// themselves.
    pub(crate) fn reserved(self, mut each: impl FnMut(Span) -> Result) -> Result {
        let mut storage = MaybeUninit::<bindings::list_head>::uninit();
        let head = storage.as_mut_ptr();

        // SAFETY: `head` is valid for writing. An empty list's head points at itself.
        unsafe {
            head.write(bindings::list_head {
                next: head,
                prev: head,
            })
        };
        // SAFETY: By the type invariant; `head` is an empty list.
        let got = unsafe { bindings::iommu_get_group_resv_regions(self.as_ptr(), head) };
        let mut result = to_result(got);

        // SAFETY: `head` is the list that was filled, also where the call failed half way.
        let mut at = unsafe { (*head).next };
        while at != head {
            // SAFETY: All of the list's nodes are in a `struct iommu_resv_region`.
            let region = unsafe { kernel::container_of!(at, bindings::iommu_resv_region, list) };
            // SAFETY: Nobody else knows the list and its regions.
            let (next, start, length, kind) = unsafe {
                (
                    (*at).next,
                    (*region).start,
                    (*region).length,
                    (*region).type_,
                )
            };
            if result.is_ok() && kind != bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE {
                if let Some(span) = Span::with_len(start, to_u64(length)) {
                    result = each(span);
                }
            }
            // SAFETY: The list's regions are ours, made by kmalloc, and are not looked at again.
            unsafe { bindings::kfree(region.cast()) };
            at = next;
        }
        result
    }
}

/// # Safety
///
/// `dev` is a device; `data` points to a pointer to a domain.
unsafe extern "C" fn alloc_for(dev: *mut bindings::device, data: *mut c_void) -> c_int {
    // SAFETY: `dev` is valid.
    let domain = unsafe { bindings::iommu_paging_domain_alloc_flags(dev, 0) };

    // SAFETY: By the requirement on `data`.
    unsafe { data.cast::<*mut bindings::iommu_domain>().write(domain) };
    // One device speaks for all.
    1
}
