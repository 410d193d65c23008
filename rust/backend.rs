// SPDX-License-Identifier: GPL-2.0

//! The operations that VFIO calls.

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
        Container,
        Device,
        Kind,
        Settings, //
    },
    debugfs,
    iommu::{
        Access,
        Group, //
    },
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        PAGE_BYTES, //
    },
    rmp,
    sys::{
        bindings,
        num::{
            from_i32,
            unsupported, //
        },
        testing, //
    },
    uapi, //
};

/// Registration with VFIO, until this is dropped.
///
/// VFIO holds a reference to the module while a container uses it, but calls [`ioctl`] without a
/// lock or reference. The call may race with the removal of the last container and of the module:
/// see "Late calls" in `Documentation/design.rst`.
pub(crate) struct Registration(());

impl Registration {
    /// Registers the operations. Sleeps. Fails as `vfio_register_iommu_driver`.
    pub(crate) fn new() -> Result<Self> {
        if serves_type1() || serves_type1v2() {
            // VFIO asks the last registered backend first, so load type1 now. It does not matter if
            // that fails.
            // SAFETY: Module init runs in process context.
            unsafe { bindings::pgsize_request_type1() };
        }
        // SAFETY: Called once.
        unsafe { bindings::pgsize_debug_init() };
        // SAFETY: The operations live as long as the module. VFIO holds a reference to the module
        // while a container uses it.
        to_result(unsafe { bindings::vfio_register_iommu_driver(&OPERATIONS.0) })
            // SAFETY: debugfs shows no container.
            .inspect_err(|_| unsafe { bindings::pgsize_debug_exit() })?;
        // SAFETY: Module init runs in process context, and the driver is registered.
        unsafe {
            bindings::pgsize_lookout_init();
            bindings::pgsize_say_loaded();
        }
        Ok(Self(()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: Module exit runs in process context.
        unsafe { bindings::pgsize_lookout_exit() };
        // SAFETY: As above.
        unsafe { bindings::pgsize_wait_for_callers() };
        testing::expect_no_calls();
        // SAFETY: It is registered. There is no container, since each holds a reference to the
        // module.
        unsafe { bindings::vfio_unregister_iommu_driver(&OPERATIONS.0) };
        rmp::exit();
        // SAFETY: debugfs shows no container.
        unsafe { bindings::pgsize_debug_exit() };
    }
}

/// A reference to the module.
struct Loaded(());

impl Loaded {
    /// `None` if the module is being unloaded.
    fn new() -> Option<Self> {
        // SAFETY: It is this module, which exists while its code runs: unloading waits for the
        // caller.
        let held =
            unsafe { bindings::try_module_get((&raw const bindings::__this_module).cast_mut()) };

        // `then`, not `then_some`: a `Loaded` is dropped only if the reference was taken.
        held.then(|| Self(()))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: The reference is ours. Unloading waits for the code that runs after this, too.
        unsafe { bindings::module_put((&raw const bindings::__this_module).cast_mut()) };
    }
}

/// The operations. VFIO does not write to them.
struct Operations(bindings::vfio_iommu_driver_ops);

// SAFETY: Not written after creation.
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
    pin_pages: Some(pin_pages),
    unpin_pages: Some(unpin_pages),
    register_device: Some(register_device),
    unregister_device: Some(unregister_device),
    dma_rw: Some(dma_rw),
});

fn serves_type1() -> bool {
    // SAFETY: It has no requirements.
    unsafe { bindings::pgsize_serve_type1() }
}

fn serves_type1v2() -> bool {
    // SAFETY: It has no requirements.
    unsafe { bindings::pgsize_serve_type1v2() }
}

/// The kind of container for a VFIO IOMMU type, if the module serves it.
fn served(kind: usize) -> Option<Kind> {
    match u32::try_from(kind) {
        Ok(bindings::VFIO_PGSIZE_IOMMU) => Some(Kind::Pgsize),
        Ok(bindings::VFIO_TYPE1_IOMMU) => serves_type1().then_some(Kind::Type1),
        Ok(bindings::VFIO_TYPE1v2_IOMMU) => serves_type1v2().then_some(Kind::Type1v2),
        _ => None,
    }
}

fn joins_mappings() -> bool {
    // SAFETY: It has no requirements.
    unsafe { bindings::pgsize_join_mappings() }
}

/// The settings of a new container.
fn settings(kind: Kind) -> Settings {
    Settings {
        kind,
        // A VMM that knows `VFIO_PGSIZE_IOMMU` says which mappings to join.
        joins: kind != Kind::Pgsize && joins_mappings(),
        // SAFETY: It has no requirements.
        entry_limit: unsafe { bindings::pgsize_dma_entry_limit() },
        // SAFETY: As above.
        joined_entry_limit: unsafe { bindings::pgsize_joined_entry_limit() },
    }
}

/// The return value of an ioctl that fails.
fn errno(error: Error) -> c_long {
    from_i32(error.to_errno())
}

/// `VFIO_SET_IOMMU`, for a type that [`uapi::extension`] supports.
///
/// # Safety
///
/// No requirements; unsafe as the type of the operations requires.
unsafe extern "C" fn open(kind: c_ulong) -> *mut c_void {
    let container = served(kind)
        .ok_or(EINVAL)
        .and_then(|kind| Container::new(settings(kind)));

    match container.and_then(|container| registry::add(&container).map(|()| container)) {
        Ok(container) => {
            debugfs::show(&container);
            container.number.to_data()
        }
        Err(error) => error.to_ptr(),
    }
}

/// Closes a container. Later calls do not find it; calls in progress find it closed.
///
/// # Safety
///
/// No requirements; unsafe as the type of the operations requires.
unsafe extern "C" fn release(data: *mut c_void) {
    if let Some(container) = registry::remove(data) {
        // Waits for readers, so no lock may be held, and before the container is closed.
        debugfs::hide(&container);
        container.close();
    }
}

/// VFIO holds no lock (`drivers/vfio/container.c: vfio_fops_unl_ioctl`). If a VMM detaches the last
/// group meanwhile, `data` may be of a container that is gone or of another backend, or NULL, and
/// the module may be about to be unloaded: see [`Registration`].
///
/// # Safety
///
/// No requirements; unsafe as the type of the operations requires.
unsafe extern "C" fn ioctl(data: *mut c_void, command: c_uint, arg: c_ulong) -> c_long {
    // Dropped last.
    let _call = testing::Call::new();
    let Some(_module) = Loaded::new() else {
        return errno(EINVAL);
    };
    if data.is_null() && command == bindings::VFIO_CHECK_EXTENSION {
        return uapi::extension(arg, |kind| served(kind).is_some());
    }
    let find = || registry::find(data).ok_or(EINVAL);

    match find().and_then(|container| uapi::ioctl(&container, command, arg)) {
        Ok(value) => value,
        Err(error) => errno(error),
    }
}

/// Attaches a group, see [`State::attach`](crate::container::State::attach).
///
/// # Safety
///
/// `group` is valid until it is detached or the container is released.
unsafe extern "C" fn attach_group(
    data: *mut c_void,
    group: *mut bindings::iommu_group,
    kind: bindings::vfio_group_type,
) -> c_int {
    from_result(|| {
        // SAFETY: By the requirement.
        let group = unsafe { Group::new(NonNull::new(group).ok_or(EINVAL)?) };
        // SAFETY: It has no requirements.
        let unsafe_interrupts = unsafe { bindings::pgsize_allow_unsafe_interrupts() };
        let container = registry::find(data).ok_or(EINVAL)?;

        match kind {
            bindings::vfio_group_type_VFIO_IOMMU => container.attach(group, unsafe_interrupts)?,
            bindings::vfio_group_type_VFIO_EMULATED_IOMMU => {
                container.attach_emulated(group)?;
            }
            _ => return Err(unsupported()),
        }
        Ok(0)
    })
}

/// Detaches a group, see [`State::detach`](crate::container::State::detach).
///
/// # Safety
///
/// As for [`attach_group`].
unsafe extern "C" fn detach_group(data: *mut c_void, group: *mut bindings::iommu_group) {
    if let (Some(container), Some(group)) = (registry::find(data), NonNull::new(group)) {
        // SAFETY: By the requirement it is valid until we return. It is not kept.
        let group = unsafe { Group::new(group) };
        container.detach(group);
    }
}

/// The domain of a group, or an error pointer: `ENODEV` if the group is not attached, `EINVAL`.
///
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

/// # Safety
///
/// A device of the container is open; `pages` has room for `npage` pointers.
unsafe extern "C" fn pin_pages(
    data: *mut c_void,
    _group: *mut bindings::iommu_group,
    iova: bindings::dma_addr_t,
    npage: c_int,
    prot: c_int,
    pages: *mut *mut bindings::page,
) -> c_int {
    const KNOWN: u32 = bindings::IOMMU_READ | bindings::IOMMU_WRITE;
    let wants = |flag| u32::try_from(prot).is_ok_and(|prot| prot & flag != 0);
    let access = Access {
        read: wants(bindings::IOMMU_READ),
        write: wants(bindings::IOMMU_WRITE),
    };

    from_result(|| {
        let count = usize::try_from(npage).map_err(|_| EINVAL)?;
        if count == 0 || pages.is_null() {
            return Err(EINVAL);
        }
        let range = pages_at(iova, npage).ok_or(EOVERFLOW)?;
        let container = registry::find(data).ok_or(EINVAL)?;
        // No mapping permits anything else.
        if wants(!KNOWN) {
            return Err(EPERM);
        }
        // SAFETY: By the requirement.
        let pages = unsafe { core::slice::from_raw_parts_mut(pages, count) };

        container.pin_pages(range, access, pages)?;
        Ok(npage)
    })
}

/// # Safety
///
/// A device of the container is open.
unsafe extern "C" fn unpin_pages(data: *mut c_void, iova: bindings::dma_addr_t, npage: c_int) {
    match (registry::find(data), pages_at(iova, npage)) {
        (Some(container), Some(range)) => container.unpin_pages(range),
        _ => {
            kernel::warn_on!(true);
        }
    }
}

/// The `npage` pages from that on that holds `iova`.
fn pages_at(iova: bindings::dma_addr_t, npage: c_int) -> Option<IovaRange> {
    let bytes = u64::try_from(npage).ok()?.checked_mul(PAGE_BYTES)?;
    let start = Iova::new(iova).align_down(PageSize::SIZE_4K);

    IovaRange::with_len(start, bytes)
}

/// # Safety
///
/// `device` is being opened, with the container in use.
unsafe extern "C" fn register_device(data: *mut c_void, device: *mut bindings::vfio_device) {
    if let (Some(container), Some(device)) = (registry::find(data), NonNull::new(device)) {
        // SAFETY: By the requirement.
        container.register_device(&unsafe { Device::new(device) });
    }
}

/// # Safety
///
/// `device` was registered, and is being closed.
unsafe extern "C" fn unregister_device(data: *mut c_void, device: *mut bindings::vfio_device) {
    if let (Some(container), Some(device)) = (registry::find(data), NonNull::new(device)) {
        // SAFETY: By the requirement.
        container.unregister_device(&unsafe { Device::new(device) });
    }
}

/// # Safety
///
/// A device of the container is open; `bytes` is valid for `count` bytes.
unsafe extern "C" fn dma_rw(
    data: *mut c_void,
    iova: bindings::dma_addr_t,
    bytes: *mut c_void,
    count: usize,
    write: bool,
) -> c_int {
    from_result(|| {
        let container = registry::find(data).ok_or(EINVAL)?;

        // SAFETY: By the requirement.
        unsafe { container.dma_rw(Iova::new(iova), bytes, count, write) }?;
        Ok(0)
    })
}
