// SPDX-License-Identifier: GPL-2.0

//! IOMMU groups: their domains, reserved regions and interrupt isolation.

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
    prelude::*,
    str::CStrExt, //
};

use super::{
    table::PageTable,
    windows::Span, //
};
use crate::sys::{
    bindings,
    num::{
        to_u64,
        unsupported, //
    },
    testing::wants_no_dirty_bits, //
};

/// A group that VFIO holds from attach to detach.
///
/// # Invariants
///
/// The pointer is valid: VFIO attaches a group, and detaches it or releases the container before it
/// drops its reference (`drivers/vfio/container.c: vfio_group_detach_container`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group(NonNull<bindings::iommu_group>);

// SAFETY: The IOMMU core allows calls on a group from any thread.
unsafe impl Send for Group {}

impl Group {
    /// A group that VFIO attaches or has attached.
    ///
    /// # Safety
    ///
    /// `group` is valid until it is detached or the container is released, and the result is not
    /// kept longer.
    pub(crate) unsafe fn new(group: NonNull<bindings::iommu_group>) -> Self {
        // INVARIANT: By the requirement.
        Self(group)
    }

    /// The kernel's group.
    pub(crate) fn as_ptr(self) -> *mut bindings::iommu_group {
        self.0.as_ptr()
    }

    /// Its number: its name in `/sys/kernel/iommu_groups`.
    pub(crate) fn number(self) -> c_int {
        // SAFETY: By the type invariant.
        unsafe { bindings::iommu_group_id(self.as_ptr()) }
    }

    /// Calls `each` with the name of every device, with the group's mutex held. Sleeps.
    pub(crate) fn each_device<F: FnMut(&CStr)>(self, mut each: F) {
        // SAFETY: By the type invariant; `name_for` gets a pointer to an `F`.
        unsafe {
            bindings::iommu_group_for_each_dev(
                self.as_ptr(),
                (&raw mut each).cast(),
                Some(name_for::<F>),
            )
        };
    }

    /// Whether MSIs of the group are isolated: its devices cannot raise the interrupts of others.
    pub(crate) fn has_isolated_msi(self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::iommu_group_has_isolated_msi(self.as_ptr()) }
    }

    /// Allocates a domain for the first device of the group. Sleeps. Fails with `ENODEV` if there
    /// is no device, and as `iommu_paging_domain_alloc_flags`.
    pub(super) fn alloc_domain(self) -> Result<NonNull<bindings::iommu_domain>> {
        let mut domain: *mut bindings::iommu_domain = ENODEV.to_ptr();

        // SAFETY: By the type invariant; `alloc_for` gets a pointer to a domain pointer.
        unsafe {
            bindings::iommu_group_for_each_dev(
                self.as_ptr(),
                (&raw mut domain).cast(),
                Some(alloc_for),
            )
        };
        NonNull::new(from_err_ptr(domain)?).ok_or(ENODEV)
    }

    /// Calls `each` with every reserved IOVA range of the group, except relaxable direct mappings
    /// (`IOMMU_RESV_DIRECT_RELAXABLE`), as type1 does. Sleeps. Fails as `each`, and with `ENOMEM`.
    pub(crate) fn reserved(self, mut each: impl FnMut(Span) -> Result) -> Result {
        let mut storage = MaybeUninit::<bindings::list_head>::uninit();
        let head = storage.as_mut_ptr();

        // SAFETY: `head` is valid for writes. The head of an empty list points to itself.
        unsafe {
            head.write(bindings::list_head {
                next: head,
                prev: head,
            })
        };
        // SAFETY: By the type invariant; `head` is an empty list.
        let got = unsafe { bindings::iommu_get_group_resv_regions(self.as_ptr(), head) };
        let mut result = to_result(got);

        // SAFETY: `head` is a list, also if the call failed.
        let mut at = unsafe { (*head).next };
        while at != head {
            // SAFETY: All of the list's nodes are in a `struct iommu_resv_region`.
            let region = unsafe { kernel::container_of!(at, bindings::iommu_resv_region, list) };
            // SAFETY: Nothing else has the list or its regions.
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
            // SAFETY: The region was allocated by kmalloc, is ours, and is not used again.
            unsafe { bindings::kfree(region.cast()) };
            at = next;
        }
        result
    }
}

/// Calls the `F` at `data` with the name of `dev`.
///
/// # Safety
///
/// `dev` is a device; `data` points to an `F` that nothing else uses.
unsafe extern "C" fn name_for<F: FnMut(&CStr)>(
    dev: *mut bindings::device,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By the requirement on `data`.
    let each = unsafe { &mut *data.cast::<F>() };

    // SAFETY: By the requirement on `dev`. Its name is valid as long as the device is.
    each(unsafe { CStr::from_char_ptr(bindings::dev_name(dev)) });
    // Continue the iteration.
    0
}

/// A new domain for `dev`. It is allocated for dirty tracking if the IOMMU has dirty bits and the
/// module can read the page table.
///
/// # Safety
///
/// `dev` is a device.
unsafe fn domain_for(dev: *mut bindings::device) -> *mut bindings::iommu_domain {
    const TRACKING: bindings::iommu_cap = bindings::iommu_cap_IOMMU_CAP_DIRTY_TRACKING;
    // SAFETY: By the requirement.
    let capable = unsafe { bindings::device_iommu_capable(dev, TRACKING) };
    if !capable || wants_no_dirty_bits() {
        // SAFETY: As above.
        return unsafe { bindings::iommu_paging_domain_alloc_flags(dev, 0) };
    }
    let flags = bindings::IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
    // SAFETY: As above.
    let domain = unsafe { bindings::iommu_paging_domain_alloc_flags(dev, flags) };
    let is_final = match from_err_ptr(domain).map(NonNull::new) {
        // SAFETY: It was just allocated, and is ours.
        Ok(Some(made)) => unsafe { PageTable::of(made) }.is_some(),
        Err(error) => error != unsupported(),
        Ok(None) => true,
    };

    if is_final {
        return domain;
    }
    if from_err_ptr(domain).is_ok() {
        // SAFETY: It is ours, and nothing is attached to it.
        unsafe { bindings::iommu_domain_free(domain) };
    }
    // SAFETY: As above.
    unsafe { bindings::iommu_paging_domain_alloc_flags(dev, 0) }
}

/// Stores a new domain for `dev` in `data`.
///
/// # Safety
///
/// `dev` is a device; `data` points to a domain pointer.
unsafe extern "C" fn alloc_for(dev: *mut bindings::device, data: *mut c_void) -> c_int {
    // SAFETY: By the requirement.
    let domain = unsafe { domain_for(dev) };

    // SAFETY: By the requirement on `data`.
    unsafe { data.cast::<*mut bindings::iommu_domain>().write(domain) };
    // Stop the iteration: the first device decides.
    1
}
