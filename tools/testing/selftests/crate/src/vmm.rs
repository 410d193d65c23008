// SPDX-License-Identifier: GPL-2.0

//! A VMM's part: the module, a container with a device, memory.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::ensure;
use anyhow::Context;
use vfio_ioctls::VfioContainer;
use vfio_ioctls::VfioDevice;
use vfio_pgsize::HostMemory;
use vfio_pgsize::IovaRange;
use vfio_pgsize::PgsizeOps;
use vfio_pgsize::State;
use vm_memory::Bytes;
use vm_memory::FileOffset;
use vm_memory::MmapRegion;
use vm_memory::VolatileMemory;

use crate::edu::Edu;
use crate::edu::BUFFER_SIZE;

fn shell(command: &str) -> anyhow::Result<()> {
    let status = Command::new("sh").arg("-c").arg(command).status()?;
    ensure!(status.success(), "{command}: {status}");
    Ok(())
}

/// Unloads the module, if it is loaded.
pub fn unload() -> anyhow::Result<()> {
    // A container that was just closed may be released a moment later.
    shell("for i in 1 2 3 4 5; do grep -q ^vfio_pgsize /proc/modules || exit 0; rmmod vfio_pgsize && exit 0; sleep 1; done; exit 1")
}

/// Loads the module anew.
pub fn load(parameters: &str) -> anyhow::Result<()> {
    unload()?;
    shell(&format!(". /lib/vm.sh && load_pgsize {parameters}"))
}

/// An edu device, by its number.
pub fn sysfs(number: usize) -> anyhow::Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/bus/pci/devices")? {
        let path = entry?.path();
        let id = |name| fs::read_to_string(path.join(name)).unwrap_or_default();
        if (id("vendor").trim(), id("device").trim()) == ("0x1234", "0x11e8") {
            found.push(path);
        }
    }
    found.sort();
    found
        .get(number)
        .cloned()
        .context("the machine has too few edu devices")
}

/// A container of `VFIO_PGSIZE_IOMMU`, with an edu device.
pub struct Vmm {
    pub ops: Arc<PgsizeOps>,
    pub device: VfioDevice,
}

impl Vmm {
    /// With the device of this number.
    pub fn new(number: usize) -> anyhow::Result<Self> {
        let container = VfioContainer::new_with_iommu_type(None, vfio_pgsize::IOMMU_TYPE)?;
        let ops = Arc::new(PgsizeOps::new(Arc::new(container), State::Private));
        let device = VfioDevice::new(&sysfs(number)?, ops.clone(), false)?;
        Ok(Vmm { ops, device })
    }

    pub fn edu(&self) -> anyhow::Result<Edu<'_>> {
        Edu::new(&self.device)
    }
}

/// Huge pages of 2M.
pub fn huge_pages(size: usize) -> anyhow::Result<MmapRegion> {
    fs::write(
        "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "32",
    )?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    MmapRegion::build(None, size, libc::PROT_READ | libc::PROT_WRITE, flags)
        .context("the machine has no huge pages")
}

/// A page of a pattern.
pub fn pattern(seed: u8) -> Vec<u8> {
    (0..BUFFER_SIZE)
        .map(|i| (i ^ (i >> 8)) as u8 ^ seed)
        .collect()
}

pub fn write_page(memory: &MmapRegion, at: usize, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(memory.as_volatile_slice().write_slice(bytes, at)?)
}

pub fn read_page(memory: &MmapRegion, at: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; BUFFER_SIZE];
    memory.as_volatile_slice().read_slice(&mut bytes, at)?;
    Ok(bytes)
}

/// Guest memory in a file, as shared memory of a confidential guest is, and what KVM would know.
pub struct Guest {
    pub memory: MmapRegion,
    file: File,
    iova: u64,
    /// Ranges and states, in the order in which KVM was told.
    pub attributes: Vec<(IovaRange, State)>,
}

impl Guest {
    /// At this address. The file has only `backed` bytes of it.
    pub fn new(iova: u64, size: usize, backed: u64) -> anyhow::Result<Self> {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
        ensure!(fd >= 0, io::Error::last_os_error());
        // SAFETY: the descriptor is new, and nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        // While it is mapped.
        file.set_len(size as u64)?;
        let offset = FileOffset::new(file.try_clone()?, 0);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let memory = MmapRegion::build(Some(offset), size, protection, libc::MAP_SHARED)?;
        file.set_len(backed)?;
        Ok(Guest {
            memory,
            file,
            iova,
            attributes: Vec::new(),
        })
    }

    /// Bytes of memory that the file has.
    pub fn bytes(&self) -> anyhow::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }
}

impl HostMemory for Guest {
    fn set_attribute(&mut self, range: IovaRange, state: State) -> io::Result<()> {
        self.attributes.push((range, state));
        Ok(())
    }

    fn discard_shared(&mut self, range: IovaRange) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let offset = (range.iova - self.iova) as libc::off_t;
        // SAFETY: fallocate takes numbers. Only raw pointers lead to the memory.
        match unsafe {
            libc::fallocate(
                self.file.as_raw_fd(),
                mode,
                offset,
                range.size as libc::off_t,
            )
        } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
