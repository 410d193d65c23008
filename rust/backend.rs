// SPDX-License-Identifier: GPL-2.0

//! The backend as VFIO sees it: a table of operations, and what they are called with.

#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    str::as_char_ptr_in_const_context,
    types::ForeignOwnable, //
};

use crate::{
    bindings,
    container::Container,
    group::Group,
    num::{
        from_i32,
        unsupported, //
    },
    uapi, //
};

type Owned = Pin<KBox<Container>>;

/// Our operations, known to VFIO until this is dropped.
pub(crate) struct Registration(());

impl Registration {
    pub(crate) fn new() -> Result<Self> {
        if serves_type1v2() {
            // VFIO asks the backend first that came last. Whether type1 is there does not matter.
            // SAFETY: Modules are initialised in process context.
            unsafe { bindings::pgsize_request_type1() };
        }
        // SAFETY: It is called once.
        unsafe { bindings::pgsize_debug_init() };
        // SAFETY: The table is there as long as the module is; VFIO takes a reference to the module
        // while a container uses it.
        to_result(unsafe { bindings::vfio_register_iommu_driver(&OPERATIONS.0) })
            // SAFETY: Nothing is shown.
            .inspect_err(|_| unsafe { bindings::pgsize_debug_exit() })?;
        Ok(Self(()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: It was registered. No container is left, or the module would not be unloaded.
        unsafe { bindings::vfio_unregister_iommu_driver(&OPERATIONS.0) };
        // SAFETY: Without containers nothing is hooked that could start it again.
        unsafe { bindings::pgsize_work_cancel() };
        // SAFETY: Without containers nothing is shown.
        unsafe { bindings::pgsize_debug_exit() };
    }
}

/// The table, which VFIO reads and never writes.
struct Operations(bindings::vfio_iommu_driver_ops);

// SAFETY: It is not written.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::vfio_iommu_driver_ops {
    // VFIO does not write to the name.
    name: as_char_ptr_in_const_context(c"vfio-pgsize").cast_mut(),
    owner: (&raw const bindings::__this_module).cast_mut(),
    open: Some(open),
    release: Some(release),
    ioctl: Some(ioctl),
    attach_group: Some(attach_group),
    detach_group: Some(detach_group),
    group_iommu_domain: Some(group_iommu_domain),
    // For devices that do no DMA of their own; their groups are refused.
    pin_pages: None,
    unpin_pages: None,
    register_device: None,
    unregister_device: None,
    dma_rw: None,
});

fn serves_type1v2() -> bool {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_serve_type1v2() }
}

/// An error as an ioctl answers it.
fn errno(error: Error) -> c_long {
    from_i32(error.to_errno())
}

/// `VFIO_SET_IOMMU`, for a type that [`uapi::extension`] said yes to.
///
/// # Safety
///
/// None: it is unsafe as the table's type is.
unsafe extern "C" fn open(kind: c_ulong) -> *mut c_void {
    // SAFETY: It may be called from anywhere.
    let limit = unsafe { bindings::pgsize_dma_entry_limit() };
    let container = match u32::try_from(kind) {
        Ok(bindings::VFIO_PGSIZE_IOMMU) => Container::new(true, limit),
        Ok(bindings::VFIO_TYPE1v2_IOMMU) if serves_type1v2() => Container::new(false, limit),
        _ => Err(EINVAL),
    };

    match container.and_then(|container| container.introduce().map(|()| container)) {
        Ok(container) => {
            // SAFETY: It is pinned, and VFIO's until it is released.
            unsafe { container.show() };
            container.into_foreign()
        }
        Err(error) => error.to_ptr(),
    }
}

/// The container's end.
///
/// # Safety
///
/// `data` came from [`open`], and is used no more.
unsafe extern "C" fn release(data: *mut c_void) {
    // SAFETY: By the requirement.
    let container = unsafe { Owned::from_foreign(data) };

    // First, and with no lock held: that waits for who reads.
    container.hide();
    container.part();
}

/// # Safety
///
/// `data` is NULL, for `VFIO_CHECK_EXTENSION`, or came from [`open`] and is not released meanwhile.
/// (VFIO does not take its lock for that: `drivers/vfio/container.c: vfio_fops_unl_ioctl`. A VMM that
/// takes the last group away while it calls is on its own, as with any backend.)
unsafe extern "C" fn ioctl(data: *mut c_void, command: c_uint, arg: c_ulong) -> c_long {
    if data.is_null() {
        return match command {
            bindings::VFIO_CHECK_EXTENSION => uapi::extension(arg, serves_type1v2()),
            _ => errno(ENOTTY),
        };
    }
    // SAFETY: By the requirement.
    let container = unsafe { Owned::borrow(data) };

    match uapi::ioctl(&container, command, arg) {
        Ok(value) => value,
        Err(error) => errno(error),
    }
}

/// # Safety
///
/// `data` came from [`open`] and is not released meanwhile; `group` is a group that stays until it is
/// detached or the container is released.
unsafe extern "C" fn attach_group(
    data: *mut c_void,
    group: *mut bindings::iommu_group,
    kind: bindings::vfio_group_type,
) -> c_int {
    from_result(|| {
        // Devices that do no DMA of their own are type1's: VFIO asks it next.
        if kind != bindings::vfio_group_type_VFIO_IOMMU {
            return Err(unsupported());
        }
        // SAFETY: By the requirement.
        let container = unsafe { Owned::borrow(data) };
        // SAFETY: By the requirement.
        let group = unsafe { Group::new(NonNull::new(group).ok_or(EINVAL)?) };
        // SAFETY: It may be called from anywhere.
        let unsafe_interrupts = unsafe { bindings::pgsize_allow_unsafe_interrupts() };

        container.state.lock().attach(group, unsafe_interrupts)?;
        Ok(0)
    })
}

/// # Safety
///
/// As for [`attach_group`].
unsafe extern "C" fn detach_group(data: *mut c_void, group: *mut bindings::iommu_group) {
    // SAFETY: By the requirement.
    let container = unsafe { Owned::borrow(data) };

    if let Some(group) = NonNull::new(group) {
        // SAFETY: By the requirement: it is valid until we return, and is not kept.
        container.state.lock().detach(unsafe { Group::new(group) });
    }
}

/// # Safety
///
/// `data` is NULL or came from [`open`] and is not released meanwhile; `group` is a group, or NULL.
unsafe extern "C" fn group_iommu_domain(
    data: *mut c_void,
    group: *mut bindings::iommu_group,
) -> *mut bindings::iommu_domain {
    let (false, Some(group)) = (data.is_null(), NonNull::new(group)) else {
        return EINVAL.to_ptr();
    };
    // SAFETY: By the requirement.
    let (container, group) = unsafe { (Owned::borrow(data), Group::new(group)) };
    let state = container.state.lock();
    let domain = state.domains.iter().find(|domain| domain.has(group));

    domain.map_or(ENODEV.to_ptr(), |domain| domain.as_ptr())
}
