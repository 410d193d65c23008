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
    str::as_char_ptr_in_const_context, //
};

use crate::{
    container::{
        registry,
        Container, //
    },
    debugfs,
    iommu::Group,
    rmp,
    sys::{
        bindings,
        num::{
            from_i32,
            unsupported, //
        }, //
    },
    uapi, //
};

/// Our operations, known to VFIO until this is dropped.
///
/// VFIO holds the module while a container uses it, and calls [`ioctl`] with nothing held. So its
/// thread may be anywhere on the way from VFIO to us when the last container goes, and then the
/// module: see "Calls that come late" in `Documentation/design.rst`.
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
        // SAFETY: Modules are unloaded in process context.
        unsafe { bindings::pgsize_wait_for_callers() };
        // SAFETY: It was registered. No container is left, or the module would not be unloaded.
        unsafe { bindings::vfio_unregister_iommu_driver(&OPERATIONS.0) };
        rmp::exit();
        // SAFETY: Without containers nothing is shown.
        unsafe { bindings::pgsize_debug_exit() };
    }
}

/// The module is not unloaded while one of these is there.
struct Loaded(());

impl Loaded {
    /// There is none if the module is being unloaded.
    fn new() -> Option<Self> {
        // SAFETY: It is the module's own, which is there as long as its code runs: whoever unloads it
        // waits for us.
        let held =
            unsafe { bindings::try_module_get((&raw const bindings::__this_module).cast_mut()) };

        // Not made, so not dropped, if it was not taken.
        held.then(|| Self(()))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: It was taken. What of our code runs after it is waited for as what runs before.
        unsafe { bindings::module_put((&raw const bindings::__this_module).cast_mut()) };
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

    match container.and_then(|container| registry::add(&container).map(|()| container)) {
        Ok(container) => {
            debugfs::show(&container);
            container.number.to_data()
        }
        Err(error) => error.to_ptr(),
    }
}

/// The container's end. Who calls from now on does not find it, and who found it before finds it
/// closed.
///
/// # Safety
///
/// None: it is unsafe as the table's type is.
unsafe extern "C" fn release(data: *mut c_void) {
    if let Some(container) = registry::remove(data) {
        // First, and with no lock held: that waits for who reads.
        debugfs::hide(&container);
        container.close();
    }
}

/// VFIO holds no lock here (`drivers/vfio/container.c: vfio_fops_unl_ioctl`): a VMM that takes the
/// last group away while it calls has `data` be of a container that is gone, of another backend's, or
/// NULL. The module may be going, too: see [`Registration`].
///
/// # Safety
///
/// None: it is unsafe as the table's type is.
unsafe extern "C" fn ioctl(data: *mut c_void, command: c_uint, arg: c_ulong) -> c_long {
    let Some(_module) = Loaded::new() else {
        return errno(EINVAL);
    };
    if data.is_null() && command == bindings::VFIO_CHECK_EXTENSION {
        return uapi::extension(arg, serves_type1v2());
    }
    let find = || registry::find(data).ok_or(EINVAL);

    match find().and_then(|container| uapi::ioctl(&container, command, arg)) {
        Ok(value) => value,
        Err(error) => errno(error),
    }
}

/// # Safety
///
/// `group` is a group that stays until it is detached or the container is released.
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
        let group = unsafe { Group::new(NonNull::new(group).ok_or(EINVAL)?) };
        // SAFETY: It may be called from anywhere.
        let unsafe_interrupts = unsafe { bindings::pgsize_allow_unsafe_interrupts() };
        let container = registry::find(data).ok_or(EINVAL)?;

        container.lock()?.attach(group, unsafe_interrupts)?;
        Ok(0)
    })
}

/// # Safety
///
/// As for [`attach_group`].
unsafe extern "C" fn detach_group(data: *mut c_void, group: *mut bindings::iommu_group) {
    if let (Some(container), Some(group)) = (registry::find(data), NonNull::new(group)) {
        // SAFETY: By the requirement: it is valid until we return, and is not kept.
        let group = unsafe { Group::new(group) };
        container.with_state(|state| state.detach(group));
    }
}

/// # Safety
///
/// `group` is a group, or NULL.
unsafe extern "C" fn group_iommu_domain(
    data: *mut c_void,
    group: *mut bindings::iommu_group,
) -> *mut bindings::iommu_domain {
    let (Some(container), Some(group)) = (registry::find(data), NonNull::new(group)) else {
        return EINVAL.to_ptr();
    };
    // SAFETY: By the requirement.
    let group = unsafe { Group::new(group) };
    let state = container.state.lock();
    let domain = state.domains.iter().find(|domain| domain.has(group));

    domain.map_or(ENODEV.to_ptr(), |domain| domain.as_ptr())
}
