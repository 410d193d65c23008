// SPDX-License-Identifier: GPL-2.0

//! A container of the type VFIO_PGSIZE_IOMMU, for page states.
//!
//! `vfio-ioctls` sets VFIO_TYPE1v2_IOMMU, so this module opens the container. With the patch in
//! tools/crates/vfio-ioctls it is one call: `VfioContainer::new_with_iommu_type`.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::path::Path;

use anyhow::Context;
use vfio_bindings::bindings::vfio::VFIO_BASE;
use vfio_bindings::bindings::vfio::VFIO_TYPE;
use vfio_pgsize::Container;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl::ioctl_with_val;
use vmm_sys_util::ioctl_io_nr;

ioctl_io_nr!(VFIO_SET_IOMMU, VFIO_TYPE as u32, VFIO_BASE + 2);
ioctl_io_nr!(VFIO_GROUP_SET_CONTAINER, VFIO_TYPE as u32, VFIO_BASE + 4);

/// A container of vfio_pgsize's own type, with a device's group.
pub struct Opened {
    container: File,
    _group: File,
}

impl AsRawFd for Opened {
    fn as_raw_fd(&self) -> RawFd {
        self.container.as_raw_fd()
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// Opens a container without an IOMMU, and checks that vfio_pgsize is loaded.
pub fn open_container() -> anyhow::Result<File> {
    let path = Path::new("/dev/vfio/vfio");
    let container =
        open(path).context("/dev/vfio/vfio: load VFIO, by 'modprobe vfio'; run as root")?;

    container.require(1)?;
    Ok(container)
}

fn succeeded(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Opened {
    /// Adds the device's group. The device is bound to vfio-pci, and nobody uses it.
    pub fn new(sysfs: &Path) -> anyhow::Result<Self> {
        let container = open_container()?;
        let number = fs::read_link(sysfs.join("iommu_group"))
            .context("there is no such device, or no IOMMU translates for it")?;
        let group = Path::new("/dev/vfio").join(number.file_name().unwrap_or_default());
        let group = open(&group).context(
            "the group cannot be opened: bind its devices to vfio-pci, and end who uses them",
        )?;
        let fd = container.as_raw_fd();
        let iommu_type = vfio_pgsize::IOMMU_TYPE.into();

        // SAFETY: the kernel reads a file descriptor from `fd`, and writes nothing.
        succeeded(unsafe { ioctl_with_ref(&group, VFIO_GROUP_SET_CONTAINER(), &fd) })
            .context("the group cannot join: bind all its devices to vfio-pci")?;
        // SAFETY: SET_IOMMU takes a number and touches no memory of ours.
        succeeded(unsafe { ioctl_with_val(&container, VFIO_SET_IOMMU(), iommu_type) })
            .context("vfio_pgsize does not take the group (see dmesg)")?;
        Ok(Opened {
            container,
            _group: group,
        })
    }
}
