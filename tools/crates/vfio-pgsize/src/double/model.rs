// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a container has: an address space, policies, counters, an eventfd.

use std::fs::read_link;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::fd::RawFd;

use vfio_bindings::bindings::vfio::VFIO_DMA_MAP_FLAG_READ;
use vfio_bindings::bindings::vfio::VFIO_DMA_MAP_FLAG_WRITE;
use vfio_bindings::bindings::vfio::VFIO_IOMMU_INFO_CAPS;
use vfio_bindings::bindings::vfio::VFIO_IOMMU_INFO_PGSIZES;
use vfio_bindings::bindings::vfio::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
use vfio_bindings::bindings::vfio::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL;

use crate::bindings::vfio_pgsize_policy;
use crate::bindings::vfio_pgsize_stats;
use crate::bindings::VFIO_PGSIZE_INFO_CAP;
use crate::bindings::VFIO_PGSIZE_MAP_SHARED;
use crate::bindings::VFIO_PGSIZE_MAP_STATEFUL;
use crate::calls::INFO_WORDS;
use crate::range::IovaRange;
use crate::state::Change;

use super::check;
use super::errno;
use super::policies::PolicyMap;
use super::policies::MAX_RANGES;
use super::space::Space;
use super::SUPPORTED;

/// The module's default of dma_entry_limit.
const MAX_MAPPINGS: u32 = 65535;

/// Below and above are the addresses of interrupts.
const WINDOWS: [u64; 4] = [0, 0xfedf_ffff, 0xfef0_0000, u64::MAX];

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) space: Space,
    pub(super) policies: PolicyMap,
    fallbacks: u64,
    event: Option<File>,
}

/// Two numbers of 32 bits, as they lie in memory.
fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// The header of a capability of version 1, in a structure of which `next` is the offset.
fn header(id: u32, next: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&(id as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&1u16.to_ne_bytes());
    bytes[4..].copy_from_slice(&next.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

impl Model {
    /// struct vfio_iommu_type1_info and three capabilities.
    pub(super) fn info(&self, buffer: &mut [u64; INFO_WORDS]) {
        let mappings = self.space.mappings() as u32;
        let words = [
            pair(136, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS),
            SUPPORTED,
            pair(24, 0),
            header(VFIO_PGSIZE_INFO_CAP, 56),
            SUPPORTED,
            self.policies.container().sizes.bits(),
            pair(MAX_RANGES, self.policies.ranges()),
            header(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 72),
            pair(MAX_MAPPINGS - mappings, 0),
            header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 0),
            pair(2, 0),
        ];
        buffer[..words.len()].copy_from_slice(&words);
        buffer[words.len()..words.len() + 4].copy_from_slice(&WINDOWS);
    }

    pub(super) fn map(
        &mut self,
        range: IovaRange,
        vaddr: u64,
        flags: u32,
        is_pgsize: bool,
    ) -> io::Result<()> {
        let last = check(range)?;
        let is_stateful = flags & VFIO_PGSIZE_MAP_STATEFUL != 0;
        let is_shared = flags & VFIO_PGSIZE_MAP_SHARED != 0;
        let known = VFIO_DMA_MAP_FLAG_READ
            | VFIO_DMA_MAP_FLAG_WRITE
            | VFIO_PGSIZE_MAP_STATEFUL
            | VFIO_PGSIZE_MAP_SHARED;
        let fits = WINDOWS
            .chunks(2)
            .any(|window| window[0] <= range.iova && last <= window[1]);
        if flags & !known != 0
            || vaddr % 4096 != 0
            || (is_stateful && !is_pgsize)
            || (is_shared && !is_stateful)
            || !fits
        {
            return Err(errno(libc::EINVAL));
        }
        if self.space.mappings() >= MAX_MAPPINGS as usize {
            return Err(errno(libc::ENOSPC));
        }
        self.space.map(range, vaddr, is_stateful)?;
        if is_shared || !is_stateful {
            self.space.fill(range, &self.policies);
        }
        Ok(())
    }

    pub(super) fn set_policy(&mut self, asked: &vfio_pgsize_policy) -> io::Result<()> {
        if let Some(range) = self.policies.set(asked)? {
            self.space.apply(range, &self.policies);
        }
        Ok(())
    }

    pub(super) fn change(&mut self, change: Change) -> io::Result<()> {
        check(change.range())?;
        self.space.change(change, &self.policies)
    }

    pub(super) fn stats(&self) -> vfio_pgsize_stats {
        let (shared, stateful) = self.space.stateful_bytes();
        vfio_pgsize_stats {
            fallbacks: self.fallbacks,
            repairs: self.fallbacks,
            shared,
            stateful,
            ..Default::default()
        }
    }

    pub(super) fn set_event(&mut self, fd: RawFd) -> io::Result<()> {
        if fd == -1 {
            self.event = None;
            return Ok(());
        }
        let name = read_link(format!("/proc/self/fd/{fd}")).map_err(|_| errno(libc::EBADF))?;
        if !name.to_string_lossy().contains("eventfd") {
            return Err(errno(libc::EINVAL));
        }
        // SAFETY: the caller's descriptor is open, as was just seen.
        let event = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        self.event = Some(event.into());
        Ok(())
    }

    pub(super) fn fall_back(&mut self) {
        self.fallbacks += 1;
        if let Some(event) = &mut self.event {
            // An eventfd takes eight bytes, or its counter is full and it is readable anyway.
            let _ = event.write_all(&1u64.to_ne_bytes());
        }
    }
}
