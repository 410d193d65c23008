// SPDX-License-Identifier: GPL-2.0

//! Page states: one mapping, of which devices may use the pages that are shared.
//!
//! They need a container of the type VFIO_PGSIZE_IOMMU. `vfio-ioctls` sets VFIO_TYPE1v2_IOMMU, so
//! this module opens the container; a VMM puts [`map_stateful`] and [`set_state`] beside its
//! `vfio_dma_map`.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::ensure;
use anyhow::Context;
use vfio_bindings::bindings::vfio::vfio_iommu_type1_dma_map;
use vfio_bindings::bindings::vfio::VFIO_BASE;
use vfio_bindings::bindings::vfio::VFIO_DMA_MAP_FLAG_READ;
use vfio_bindings::bindings::vfio::VFIO_DMA_MAP_FLAG_WRITE;
use vfio_bindings::bindings::vfio::VFIO_TYPE;
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl::ioctl_with_val;
use vmm_sys_util::ioctl_io_nr;

use crate::pgsize;
use crate::pgsize::VFIO_PGSIZE_IOMMU;

const VFIO_PGSIZE_MAP_STATEFUL: u32 = 1 << 16;

ioctl_io_nr!(VFIO_SET_IOMMU, VFIO_TYPE as u32, VFIO_BASE + 2);
ioctl_io_nr!(VFIO_GROUP_SET_CONTAINER, VFIO_TYPE as u32, VFIO_BASE + 4);
ioctl_io_nr!(VFIO_IOMMU_MAP_DMA, VFIO_TYPE as u32, VFIO_BASE + 13);
ioctl_io_nr!(VFIO_PGSIZE_SET_STATE, VFIO_TYPE as u32, VFIO_BASE + 105);

/// Whether devices may use the pages.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum State {
    Private,
    Shared,
}

/// One change: pages, and their new state.
#[repr(C)]
pub struct Change {
    iova: u64,
    size: u64,
    state: State,
    reserved: u32,
}

#[repr(C)]
struct SetState {
    argsz: u32,
    flags: u32,
    nr: u32,
    reserved: u32,
    changes: u64,
}

const _: () = assert!(size_of::<Change>() == 24);
const _: () = assert!(size_of::<SetState>() == 24);

impl Change {
    pub fn new(iova: u64, size: u64, state: State) -> Self {
        Change {
            iova,
            size,
            state,
            reserved: 0,
        }
    }
}

/// A container of vfio_pgsize's own type, with a device's group.
pub struct Container {
    container: File,
    _group: File,
}

impl AsRawFd for Container {
    fn as_raw_fd(&self) -> i32 {
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

    ensure!(
        pgsize::is_offered(&container),
        "no backend of VFIO has page-size policies: load the module vfio_pgsize"
    );
    Ok(container)
}

fn succeeded(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Container {
    /// Adds the device's group. The device is bound to vfio-pci, and nobody uses it.
    pub fn open(sysfs: &Path) -> anyhow::Result<Self> {
        let container = open_container()?;
        let number = fs::read_link(sysfs.join("iommu_group"))
            .context("there is no such device, or no IOMMU translates for it")?;
        let group = Path::new("/dev/vfio").join(number.file_name().unwrap_or_default());
        let group = open(&group).context(
            "the group cannot be opened: bind its devices to vfio-pci, and end who uses them",
        )?;
        let fd = container.as_raw_fd();

        // SAFETY: the kernel reads a file descriptor from `fd`, and writes nothing.
        succeeded(unsafe { ioctl_with_ref(&group, VFIO_GROUP_SET_CONTAINER(), &fd) })
            .context("the group cannot join: bind all its devices to vfio-pci")?;
        // SAFETY: SET_IOMMU takes a number and touches no memory of ours.
        succeeded(unsafe { ioctl_with_val(&container, VFIO_SET_IOMMU(), VFIO_PGSIZE_IOMMU) })
            .context("vfio_pgsize does not take the group (see dmesg)")?;
        Ok(Container {
            container,
            _group: group,
        })
    }
}

/// Maps memory with all pages private.
///
/// # Safety
///
/// Devices change the memory while pages are shared: access it only with volatile operations, and
/// keep it as long as the mapping.
pub unsafe fn map_stateful(
    container: &impl AsRawFd,
    iova: u64,
    size: usize,
    memory: *mut u8,
) -> io::Result<()> {
    let map = vfio_iommu_type1_dma_map {
        argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE | VFIO_PGSIZE_MAP_STATEFUL,
        vaddr: memory as u64,
        iova,
        size: size as u64,
    };
    // SAFETY: the kernel reads `argsz` bytes, all of `map`; the caller vouches for the memory.
    succeeded(unsafe { ioctl_with_ref(container, VFIO_IOMMU_MAP_DMA(), &map) })
}

/// Change the state of pages. If it fails: how many changes, from the first on, are done.
pub fn set_state(container: &impl AsRawFd, changes: &[Change]) -> Result<(), (usize, io::Error)> {
    let mut set = SetState {
        argsz: size_of::<SetState>() as u32,
        flags: 0,
        nr: changes.len() as u32,
        reserved: 0,
        changes: changes.as_ptr() as u64,
    };
    // SAFETY: the kernel reads `nr` changes and `set`, and writes to `set` only.
    succeeded(unsafe { ioctl_with_mut_ref(container, VFIO_PGSIZE_SET_STATE(), &mut set) })
        .map_err(|error| (set.nr as usize, error))
}
