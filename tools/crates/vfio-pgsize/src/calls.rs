// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ioctls, one a method. All unsafe code that talks to the kernel is here.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::os::raw::c_int;
use std::os::raw::c_ulong;

use vfio_bindings::bindings::vfio::vfio_iommu_type1_dma_map;
use vfio_bindings::bindings::vfio::vfio_iommu_type1_dma_unmap;
use vfio_bindings::bindings::vfio::VFIO_BASE;
use vfio_bindings::bindings::vfio::VFIO_TYPE;
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl::ioctl_with_val;
use vmm_sys_util::ioctl_io_nr;

use crate::bindings::vfio_pgsize_event;
use crate::bindings::vfio_pgsize_policy;
use crate::bindings::vfio_pgsize_query;
use crate::bindings::vfio_pgsize_run;
use crate::bindings::vfio_pgsize_set_state;
use crate::bindings::vfio_pgsize_stats;
use crate::bindings::VFIO_PGSIZE_GET_POLICY;
use crate::bindings::VFIO_PGSIZE_GET_STATS;
use crate::bindings::VFIO_PGSIZE_QUERY;
use crate::bindings::VFIO_PGSIZE_SET_EVENT;
use crate::bindings::VFIO_PGSIZE_SET_POLICY;
use crate::bindings::VFIO_PGSIZE_SET_STATE;
use crate::range::IovaRange;
use crate::state::Change;

ioctl_io_nr!(VFIO_CHECK_EXTENSION, VFIO_TYPE as u32, VFIO_BASE + 1);
ioctl_io_nr!(VFIO_IOMMU_GET_INFO, VFIO_TYPE as u32, VFIO_BASE + 12);
ioctl_io_nr!(VFIO_IOMMU_MAP_DMA, VFIO_TYPE as u32, VFIO_BASE + 13);
ioctl_io_nr!(VFIO_IOMMU_UNMAP_DMA, VFIO_TYPE as u32, VFIO_BASE + 14);

/// A call, for messages.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    CheckExtension,
    GetInfo,
    MapDma,
    UnmapDma,
    GetPolicy,
    SetPolicy,
    Query,
    GetStats,
    SetEvent,
    SetState,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Call::CheckExtension => "VFIO_CHECK_EXTENSION",
            Call::GetInfo => "VFIO_IOMMU_GET_INFO",
            Call::MapDma => "VFIO_IOMMU_MAP_DMA",
            Call::UnmapDma => "VFIO_IOMMU_UNMAP_DMA",
            Call::GetPolicy => "VFIO_PGSIZE_GET_POLICY",
            Call::SetPolicy => "VFIO_PGSIZE_SET_POLICY",
            Call::Query => "VFIO_PGSIZE_QUERY",
            Call::GetStats => "VFIO_PGSIZE_GET_STATS",
            Call::SetEvent => "VFIO_PGSIZE_SET_EVENT",
            Call::SetState => "VFIO_PGSIZE_SET_STATE",
        })
    }
}

/// The calls of a container as the kernel has them, each a method.
///
/// Everything with a file descriptor has them by ioctl, and `double::Double` without a kernel. VMMs
/// use [`Container`](crate::Container), which this trait is below. The methods fail with the
/// kernel's error, unexplained. They set `argsz` and the addresses of slices.
pub trait Calls {
    /// `VFIO_CHECK_EXTENSION`: what the kernel returns for `extension`.
    fn raw_check_extension(&self, extension: u32) -> io::Result<u32>;

    /// `VFIO_IOMMU_GET_INFO`. The buffer begins with `struct vfio_iommu_type1_info`.
    fn raw_get_info(&self, buffer: &mut [u64; INFO_WORDS]) -> io::Result<()>;

    /// `VFIO_IOMMU_MAP_DMA` with these flags, of memory at this address.
    ///
    /// # Safety
    ///
    /// See [`Container::map`](crate::Container::map).
    unsafe fn raw_map_dma(&self, range: IovaRange, vaddr: u64, flags: u32) -> io::Result<()>;

    /// `VFIO_IOMMU_UNMAP_DMA` without flags: how many bytes were unmapped.
    fn raw_unmap_dma(&self, range: IovaRange) -> io::Result<u64>;

    /// `VFIO_PGSIZE_GET_POLICY` with these flags, at this address.
    fn raw_get_policy(&self, flags: u32, iova: u64) -> io::Result<vfio_pgsize_policy>;

    /// `VFIO_PGSIZE_SET_POLICY`.
    fn raw_set_policy(&self, policy: vfio_pgsize_policy) -> io::Result<()>;

    /// `VFIO_PGSIZE_QUERY`: reports into the slice, at most as many runs as it has.
    fn raw_query(
        &self,
        query: &mut vfio_pgsize_query,
        runs: &mut [vfio_pgsize_run],
    ) -> io::Result<()>;

    /// `VFIO_PGSIZE_GET_STATS`.
    fn raw_get_stats(&self) -> io::Result<vfio_pgsize_stats>;

    /// `VFIO_PGSIZE_SET_EVENT`: an eventfd, or -1.
    fn raw_set_event(&self, fd: RawFd) -> io::Result<()>;

    /// `VFIO_PGSIZE_SET_STATE`. If it fails: how many changes, from the first on, are done.
    fn raw_set_state(&self, changes: &[Change]) -> Result<(), (usize, io::Error)>;
}

/// The most that GET_INFO reports, in words of 8 bytes: far more than the kernel has.
pub const INFO_WORDS: usize = 512;

/// `argsz` of a structure.
const fn argsz<T>() -> u32 {
    size_of::<T>() as u32
}

/// The result of an ioctl that returns 0.
fn succeeded(result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl<T: AsRawFd + ?Sized> Calls for T {
    fn raw_check_extension(&self, extension: u32) -> io::Result<u32> {
        // SAFETY: CHECK_EXTENSION takes a number and touches no memory of ours.
        let result =
            unsafe { ioctl_with_val(&self.as_raw_fd(), VFIO_CHECK_EXTENSION(), extension.into()) };
        u32::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    fn raw_get_info(&self, buffer: &mut [u64; INFO_WORDS]) -> io::Result<()> {
        let mut head = buffer[0].to_ne_bytes();
        head[..4].copy_from_slice(&argsz::<[u64; INFO_WORDS]>().to_ne_bytes());
        buffer[0] = u64::from_ne_bytes(head);
        // SAFETY: the kernel reads and writes `argsz` bytes at most, all of `buffer`, and any bytes
        // are integers.
        succeeded(unsafe { ioctl_with_mut_ref(&self.as_raw_fd(), VFIO_IOMMU_GET_INFO(), buffer) })
    }

    unsafe fn raw_map_dma(&self, range: IovaRange, vaddr: u64, flags: u32) -> io::Result<()> {
        let map = vfio_iommu_type1_dma_map {
            argsz: argsz::<vfio_iommu_type1_dma_map>(),
            flags,
            vaddr,
            iova: range.iova,
            size: range.size,
        };
        // SAFETY: the kernel reads `argsz` bytes, all of `map`; the caller vouches for the memory.
        succeeded(unsafe { ioctl_with_ref(&self.as_raw_fd(), VFIO_IOMMU_MAP_DMA(), &map) })
    }

    fn raw_unmap_dma(&self, range: IovaRange) -> io::Result<u64> {
        let mut unmap = vfio_iommu_type1_dma_unmap {
            argsz: argsz::<vfio_iommu_type1_dma_unmap>(),
            iova: range.iova,
            size: range.size,
            ..Default::default()
        };
        // SAFETY: the kernel reads and writes `argsz` bytes, all of `unmap`.
        succeeded(unsafe {
            ioctl_with_mut_ref(&self.as_raw_fd(), VFIO_IOMMU_UNMAP_DMA(), &mut unmap)
        })?;
        Ok(unmap.size)
    }

    fn raw_get_policy(&self, flags: u32, iova: u64) -> io::Result<vfio_pgsize_policy> {
        let mut policy = vfio_pgsize_policy {
            argsz: argsz::<vfio_pgsize_policy>(),
            flags,
            iova,
            ..Default::default()
        };
        // SAFETY: the kernel reads and writes `argsz` bytes, all of `policy`.
        succeeded(unsafe {
            ioctl_with_mut_ref(&self.as_raw_fd(), nr(VFIO_PGSIZE_GET_POLICY), &mut policy)
        })?;
        Ok(policy)
    }

    fn raw_set_policy(&self, mut policy: vfio_pgsize_policy) -> io::Result<()> {
        policy.argsz = argsz::<vfio_pgsize_policy>();
        // SAFETY: the kernel reads `argsz` bytes, all of `policy`, and writes none.
        succeeded(unsafe { ioctl_with_ref(&self.as_raw_fd(), nr(VFIO_PGSIZE_SET_POLICY), &policy) })
    }

    fn raw_query(
        &self,
        query: &mut vfio_pgsize_query,
        runs: &mut [vfio_pgsize_run],
    ) -> io::Result<()> {
        query.argsz = argsz::<vfio_pgsize_query>();
        query.nr = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        query.runs = runs.as_mut_ptr() as u64;
        // SAFETY: the kernel reads and writes `argsz` bytes, all of `query`, and writes at most
        // `nr` runs, no more than `runs` has, of which any bits are valid.
        succeeded(unsafe { ioctl_with_mut_ref(&self.as_raw_fd(), nr(VFIO_PGSIZE_QUERY), query) })
    }

    fn raw_get_stats(&self) -> io::Result<vfio_pgsize_stats> {
        let mut stats = vfio_pgsize_stats {
            argsz: argsz::<vfio_pgsize_stats>(),
            ..Default::default()
        };
        // SAFETY: the kernel reads and writes `argsz` bytes, all of `stats`.
        succeeded(unsafe {
            ioctl_with_mut_ref(&self.as_raw_fd(), nr(VFIO_PGSIZE_GET_STATS), &mut stats)
        })?;
        Ok(stats)
    }

    fn raw_set_event(&self, fd: RawFd) -> io::Result<()> {
        let event = vfio_pgsize_event {
            argsz: argsz::<vfio_pgsize_event>(),
            fd,
            ..Default::default()
        };
        // SAFETY: the kernel reads `argsz` bytes, all of `event`, and writes none.
        succeeded(unsafe { ioctl_with_ref(&self.as_raw_fd(), nr(VFIO_PGSIZE_SET_EVENT), &event) })
    }

    fn raw_set_state(&self, changes: &[Change]) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        for part in changes.chunks(u32::MAX as usize) {
            let wanted = part.len() as u32;
            let mut set = vfio_pgsize_set_state {
                argsz: argsz::<vfio_pgsize_set_state>(),
                nr: wanted,
                changes: part.as_ptr() as u64,
                ..Default::default()
            };
            // SAFETY: the kernel reads `nr` changes, which are in `part`, and `argsz` bytes, all of
            // `set`, and writes to `set` only.
            succeeded(unsafe {
                ioctl_with_mut_ref(&self.as_raw_fd(), nr(VFIO_PGSIZE_SET_STATE), &mut set)
            })
            .map_err(|error| (done + completed(set.nr, wanted), error))?;
            done += part.len();
        }
        Ok(())
    }
}

/// How many changes a call completed that failed, by the `nr` that it left: whoever refuses the call
/// as a whole, as another backend does, leaves `nr` as it was.
fn completed(left: u32, wanted: u32) -> usize {
    if left < wanted {
        left as usize
    } else {
        0
    }
}

/// The number of an ioctl, as libc takes it.
fn nr(number: u32) -> c_ulong {
    number.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_vfio() {
        ioctl_io_nr!(SET_POLICY, VFIO_TYPE as u32, VFIO_BASE + 101);
        ioctl_io_nr!(SET_STATE, VFIO_TYPE as u32, VFIO_BASE + 105);
        assert_eq!(SET_POLICY(), nr(VFIO_PGSIZE_SET_POLICY));
        assert_eq!(SET_STATE(), nr(VFIO_PGSIZE_SET_STATE));
        assert_eq!(VFIO_CHECK_EXTENSION(), 15205);
    }

    #[test]
    fn who_refuses_a_call_as_a_whole_has_done_nothing() {
        assert_eq!(completed(0, 3), 0);
        assert_eq!(completed(2, 3), 2);
        assert_eq!(completed(3, 3), 0);
    }
}
