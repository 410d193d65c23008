// SPDX-License-Identifier: GPL-2.0

//! Open emulated devices, which have to unpin pages before these are unmapped: see `devices.h`.

#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    types::Opaque, //
};

use crate::{
    pgtable::IovaRange,
    sys::bindings, //
};

/// An open VFIO device.
pub(crate) struct Device(NonNull<bindings::vfio_device>);

impl Device {
    /// # Safety
    ///
    /// VFIO registers or unregisters `device` now: it is valid, and open.
    pub(crate) unsafe fn new(device: NonNull<bindings::vfio_device>) -> Self {
        Self(device)
    }
}

/// The open devices of a container that can pin pages.
#[pin_data]
pub(super) struct Devices {
    #[pin]
    raw: Opaque<bindings::pgsize_devices>,
}

// SAFETY: A mutex and what it protects are for more than one thread.
unsafe impl Send for Devices {}

// SAFETY: As above.
unsafe impl Sync for Devices {}

impl Devices {
    /// No device.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: It is valid for writing, and stays where it is.
            raw <- Opaque::ffi_init(|raw| unsafe { bindings::pgsize_devices_init(raw) }),
        })
    }

    /// Adds a device.
    pub(crate) fn add(&self, device: &Device) {
        // SAFETY: The list is initialised. The device is valid until VFIO has it removed, and in no
        // other list.
        unsafe { bindings::pgsize_devices_add(self.raw.get(), device.0.as_ptr()) };
    }

    /// Removes a device.
    pub(crate) fn remove(&self, device: &Device) {
        // SAFETY: As above; it was added.
        unsafe { bindings::pgsize_devices_remove(self.raw.get(), device.0.as_ptr()) };
    }

    /// Tells all devices to unpin their pages of `range`. They call [`super::Container::unpin_pages`]:
    /// the caller holds no lock and no claim.
    pub(super) fn tell(&self, range: IovaRange) {
        let bytes = range.bytes().unwrap_or(0);

        // SAFETY: The list is initialised, and its devices are valid.
        unsafe { bindings::pgsize_devices_tell(self.raw.get(), range.start().get(), bytes) };
    }
}
