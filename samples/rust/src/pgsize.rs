// SPDX-License-Identifier: GPL-2.0

//! vfio_pgsize's calls on a VFIO container: set the policy, ask for the leaves.
//!
//! The structures are those of `include/uapi/linux/vfio_pgsize.h`, which says
//! what each field means and which errors there are.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::str::FromStr;

use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl::ioctl_with_val;
use vmm_sys_util::ioctl_io_nr;

use vfio_bindings::bindings::vfio::VFIO_BASE;
use vfio_bindings::bindings::vfio::VFIO_TYPE;

pub const VFIO_PGSIZE_IOMMU: u64 = 0x5047_535a;
const VFIO_PGSIZE_VERSION: i32 = 1;
const VFIO_PGSIZE_POLICY_APPLY: u32 = 1 << 1;

ioctl_io_nr!(VFIO_CHECK_EXTENSION, VFIO_TYPE as u32, VFIO_BASE + 1);
ioctl_io_nr!(VFIO_PGSIZE_SET_POLICY, VFIO_TYPE as u32, VFIO_BASE + 101);
ioctl_io_nr!(VFIO_PGSIZE_QUERY, VFIO_TYPE as u32, VFIO_BASE + 102);

#[repr(C)]
#[derive(Default)]
struct Policy {
    argsz: u32,
    flags: u32,
    iova: u64,
    size: u64,
    pgsizes: u64,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    argsz: u32,
    flags: u32,
    iova: u64,
    size: u64,
    domain: u32,
    nr: u32,
    runs: u64,
}

/// A run of like leaves that follow one another.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Run {
    pub iova: u64,
    pub size: u64,
    pub pgsize: u64,
    flags: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Policy>() == 32);
const _: () = assert!(size_of::<Query>() == 40);
const _: () = assert!(size_of::<Run>() == 32);

/// `argsz` of a structure: its size, of 40 bytes at most.
const fn argsz<T>() -> u32 {
    size_of::<T>() as u32
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = ["", "r", "w", "rw"][(self.flags & 3) as usize];
        let leaves = self.size / self.pgsize;
        let Run {
            iova, size, pgsize, ..
        } = self;
        write!(
            f,
            "run {iova:#x} {size:#x} {pgsize:#x} {access} (leaves: {leaves})"
        )
    }
}

/// A set of leaf sizes: `4K,2M`, or `all`.
#[derive(Clone, Copy)]
pub struct Sizes(u64);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Sizes(u64::MAX));
        }
        let mut set = 0;
        for word in text.split(',') {
            let number = word.trim_end_matches(['K', 'M', 'G', 'T']);
            let shift = match &word[number.len()..] {
                "" => 0,
                "K" => 10,
                "M" => 20,
                "G" => 30,
                "T" => 40,
                unit => return Err(format!("unknown unit {unit}")),
            };
            let size = number
                .parse::<u64>()
                .ok()
                .and_then(|n| n.checked_mul(1 << shift));
            match size {
                Some(size) if size.is_power_of_two() => set |= size,
                _ => return Err(format!("{word} is no page size, as 4K or 2M")),
            }
        }
        Ok(Sizes(set))
    }
}

/// Does this container know vfio_pgsize?
pub fn is_offered(container: &impl AsRawFd) -> bool {
    // SAFETY: CHECK_EXTENSION takes a number and touches no memory of ours.
    let version = unsafe { ioctl_with_val(container, VFIO_CHECK_EXTENSION(), VFIO_PGSIZE_IOMMU) };
    version >= VFIO_PGSIZE_VERSION
}

/// Set the container's policy: for what is mapped from now on, or also, with
/// `apply`, for what is mapped already.
pub fn set_policy(container: &impl AsRawFd, sizes: Sizes, apply: bool) -> io::Result<()> {
    let policy = Policy {
        argsz: argsz::<Policy>(),
        flags: if apply { VFIO_PGSIZE_POLICY_APPLY } else { 0 },
        pgsizes: sizes.0,
        ..Default::default()
    };
    // SAFETY: the kernel reads `argsz` bytes, all of `policy`, and writes none.
    match unsafe { ioctl_with_ref(container, VFIO_PGSIZE_SET_POLICY(), &policy) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The leaves of a range, as they are in the page table.
pub fn leaves(container: &impl AsRawFd, iova: u64, size: u64) -> io::Result<Vec<Run>> {
    let mut found = Vec::new();
    let mut query = Query {
        argsz: argsz::<Query>(),
        iova,
        size,
        ..Default::default()
    };
    while query.size != 0 {
        let mut runs = [Run::default(); 64];
        query.nr = 64;
        query.runs = runs.as_mut_ptr() as u64;
        // SAFETY: the kernel writes to `query`, and at most `nr` runs, as many
        // as there are, to `runs`, which lives on; any bits make a valid Run.
        if unsafe { ioctl_with_mut_ref(container, VFIO_PGSIZE_QUERY(), &mut query) } != 0 {
            return Err(io::Error::last_os_error());
        }
        found.extend_from_slice(&runs[..query.nr as usize]);
    }
    Ok(found)
}
