// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_GET_INFO`: the properties of a container, as a chain of capabilities.

#![allow(unsafe_code)]

use kernel::{
    prelude::*,
    transmute::AsBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use super::dirty::MOST_BYTES;
use crate::{
    container::{
        Container,
        State, //
    },
    policy::MAX_RANGES,
    sys::{
        bindings,
        num::to_usize, //
    }, //
};

/// The least `argsz` that is accepted: up to `iova_pgsizes`.
const LEAST: usize = core::mem::offset_of!(bindings::vfio_iommu_type1_info, cap_offset);

const WHOLE: usize = size_of::<bindings::vfio_iommu_type1_info>();

type MigrationCap = bindings::vfio_iommu_type1_info_cap_migration;

type AvailCap = bindings::vfio_iommu_type1_info_dma_avail;

type RangesCap = bindings::vfio_iommu_type1_info_cap_iova_range;

// SAFETY: Integers without padding.
unsafe impl AsBytes for bindings::vfio_iommu_type1_info {}

// SAFETY: As above.
unsafe impl AsBytes for bindings::vfio_info_cap_header {}

// SAFETY: As above.
unsafe impl AsBytes for bindings::vfio_iova_range {}

// SAFETY: As above.
unsafe impl AsBytes for bindings::vfio_pgsize_info_cap {}

// SAFETY: As above.
unsafe impl AsBytes for AvailCap {}

/// A capability chain. Each capability has the offset of the next one from the start of the
/// structure.
struct Chain {
    bytes: KVec<u8>,
    /// Start of the last capability.
    last: Option<usize>,
}

impl Chain {
    fn new() -> Self {
        Self {
            bytes: KVec::new(),
            last: None,
        }
    }

    /// Appends a capability that consists of `parts`, in this order.
    fn add(&mut self, parts: &[&[u8]]) -> Result {
        let start = self.bytes.len();

        for part in parts {
            self.bytes.extend_from_slice(part, GFP_KERNEL)?;
        }
        let padded = self.bytes.len().next_multiple_of(size_of::<u64>());
        self.bytes.resize(padded, 0, GFP_KERNEL)?;

        if let Some(last) = self.last {
            const NEXT: usize = core::mem::offset_of!(bindings::vfio_info_cap_header, next);
            let next = u32::try_from(WHOLE.saturating_add(start))?;
            let place = self
                .bytes
                .get_mut(last..)
                .and_then(|cap| cap.get_mut(NEXT..));
            if let Some(place) = place.and_then(|place| place.first_chunk_mut()) {
                *place = next.to_ne_bytes();
            }
        }
        self.last = Some(start);
        Ok(())
    }
}

pub(super) fn get_info(container: &Container, user: UserPtr) -> Result {
    let mut bytes = [0u8; LEAST];
    UserSlice::new(user, LEAST)
        .reader()
        .read_slice(&mut bytes)?;
    let argsz = bytes
        .first_chunk()
        .map_or(0, |argsz| u32::from_ne_bytes(*argsz));
    let room = to_usize(argsz.into());

    if room < LEAST {
        return Err(EINVAL);
    }
    let state = container.lock()?;
    let chain = capabilities(&state, container.joins)?;
    let needed = WHOLE.saturating_add(chain.bytes.len());
    let mut info = bindings::vfio_iommu_type1_info {
        argsz,
        flags: bindings::VFIO_IOMMU_INFO_PGSIZES | bindings::VFIO_IOMMU_INFO_CAPS,
        iova_pgsizes: state.supported().bits(),
        ..Default::default()
    };
    drop(state);

    let (_, mut writer) = UserSlice::new(user, needed.min(room)).reader_writer();
    if room < needed {
        info.argsz = u32::try_from(needed)?;
        let told = info.as_bytes();
        return writer.write_slice(told.get(..room.min(WHOLE)).unwrap_or(told));
    }
    info.cap_offset = u32::try_from(WHOLE)?;
    writer.write_slice(info.as_bytes())?;
    writer.write_slice(&chain.bytes)
}

/// The capabilities of type1 that apply, and the policy.
fn capabilities(state: &State, joins: bool) -> Result<Chain> {
    let mut chain = Chain::new();
    let header = |id: u32| -> Result<_> {
        Ok(bindings::vfio_info_cap_header {
            id: u16::try_from(id)?,
            version: 1,
            next: 0,
        })
    };
    let windows = state.windows.as_slice();

    let smallest = state.supported().smallest();
    let head = header(bindings::VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION)?;
    // `flags`, which is 0, and 32 bits of padding; `pgsize_bitmap`; `max_dirty_bitmap_size`.
    const { assert!(size_of::<MigrationCap>() == 32) };
    chain.add(&[
        head.as_bytes(),
        &0_u64.to_ne_bytes(),
        &smallest.map_or(0, |size| size.bytes()).to_ne_bytes(),
        &MOST_BYTES.to_ne_bytes(),
    ])?;
    let avail = AvailCap {
        header: header(bindings::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)?,
        avail: match joins {
            true => state.avail_if_joined(),
            false => state.avail,
        },
    };
    chain.add(&[avail.as_bytes()])?;
    if !windows.is_empty() {
        let mut ranges = KVec::with_capacity(windows.len(), GFP_KERNEL)?;
        for window in windows {
            let range = bindings::vfio_iova_range {
                start: window.start.get(),
                end: window.last.get(),
            };
            ranges.push(range, GFP_KERNEL)?;
        }
        let head = header(bindings::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)?;
        // Between the header and the ranges: their number, and 32 reserved bits.
        const { assert!(size_of::<RangesCap>() == 16) };
        let number = u64::from(u32::try_from(windows.len())?);
        chain.add(&[
            head.as_bytes(),
            &number.to_le_bytes(),
            AsBytes::as_bytes(ranges.as_slice()),
        ])?;
    }
    let policy = bindings::vfio_pgsize_info_cap {
        header: header(bindings::VFIO_PGSIZE_INFO_CAP)?,
        supported: state.supported().bits(),
        pgsizes: state.chosen_policy().rule().sizes.bits(),
        max_ranges: u32::try_from(MAX_RANGES)?,
        nr_ranges: u32::try_from(state.chosen_policy().ranges())?,
        container: state.follower.id,
    };
    chain.add(&[policy.as_bytes()])?;
    Ok(chain)
}
