// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What GET_INFO reports.

use std::ops::RangeInclusive;

use vfio_bindings::bindings::vfio::VFIO_IOMMU_INFO_CAPS;
use vfio_bindings::bindings::vfio::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
use vfio_bindings::bindings::vfio::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL;

use crate::bindings::VFIO_PGSIZE_INFO_CAP;
use crate::calls::INFO_WORDS;
use crate::sizes::PageSizes;

/// What a container supports, and how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Leaf sizes that every IOMMU in the container supports.
    pub supported: PageSizes,
    /// The leaf sizes of the container's policy.
    pub sizes: PageSizes,
    /// How many ranges can have their own policy.
    pub max_ranges: u32,
    /// How many ranges have one.
    pub nr_ranges: u32,
    /// How many more mappings the container can have.
    pub available_mappings: Option<u32>,
    /// Where memory can be mapped; empty if no group has an IOMMU.
    pub iova_ranges: Vec<RangeInclusive<u64>>,
}

// Offsets in struct vfio_iommu_type1_info, struct vfio_info_cap_header and the capabilities.
const INFO_FLAGS: usize = 4;
const INFO_CAP_OFFSET: usize = 16;
const CAP_ID: usize = 0;
const CAP_NEXT: usize = 4;
const PGSIZE_SUPPORTED: usize = 8;
const PGSIZE_SIZES: usize = 16;
const PGSIZE_MAX_RANGES: usize = 24;
const PGSIZE_NR_RANGES: usize = 28;
const AVAILABLE: usize = 8;
const NR_IOVAS: usize = 8;
const IOVAS: usize = 16;

/// The words that GET_INFO wrote.
struct Reader<'a>(&'a [u64; INFO_WORDS]);

impl Reader<'_> {
    /// An integer of N bytes at an aligned offset.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let word = self.0.get(offset / 8)?.to_ne_bytes();
        word.get(offset % 8..)?.get(..N)?.try_into().ok()
    }

    fn u16(&self, offset: usize) -> Option<u16> {
        self.bytes(offset).map(u16::from_ne_bytes)
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        self.bytes(offset).map(u32::from_ne_bytes)
    }

    fn u64(&self, offset: usize) -> Option<u64> {
        self.bytes(offset).map(u64::from_ne_bytes)
    }

    fn sizes(&self, offset: usize) -> Option<PageSizes> {
        self.u64(offset).map(PageSizes::from_bits)
    }

    /// Offsets of the capabilities. Each lies behind the last one, so the chain ends.
    fn capabilities(&self) -> impl Iterator<Item = usize> + '_ {
        let has_some = self.u32(INFO_FLAGS).unwrap_or(0) & VFIO_IOMMU_INFO_CAPS != 0;
        let offset = |at| {
            self.u32(at)
                .filter(|next| *next != 0)
                .map(|next| next as usize)
        };
        let first = has_some.then(|| offset(INFO_CAP_OFFSET)).flatten();
        std::iter::successors(first, move |at| {
            offset(at + CAP_NEXT).filter(|next| next > at)
        })
    }

    fn iova_ranges(&self, capability: usize) -> Option<Vec<RangeInclusive<u64>>> {
        (0..self.u32(capability + NR_IOVAS)? as usize)
            .map(|index| {
                let at = capability + IOVAS + 16 * index;
                Some(self.u64(at)?..=self.u64(at + 8)?)
            })
            .collect()
    }
}

impl Info {
    /// Reads what GET_INFO wrote. `None`: it has no capability of vfio_pgsize.
    pub(crate) fn read(buffer: &[u64; INFO_WORDS]) -> Option<Self> {
        let reader = Reader(buffer);
        let mut info = None;
        let mut available_mappings = None;
        let mut iova_ranges = Vec::new();
        for at in reader.capabilities() {
            match u32::from(reader.u16(at + CAP_ID)?) {
                VFIO_PGSIZE_INFO_CAP => {
                    info = Some(Info {
                        supported: reader.sizes(at + PGSIZE_SUPPORTED)?,
                        sizes: reader.sizes(at + PGSIZE_SIZES)?,
                        max_ranges: reader.u32(at + PGSIZE_MAX_RANGES)?,
                        nr_ranges: reader.u32(at + PGSIZE_NR_RANGES)?,
                        available_mappings: None,
                        iova_ranges: Vec::new(),
                    });
                }
                VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL => available_mappings = reader.u32(at + AVAILABLE),
                VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE => iova_ranges = reader.iova_ranges(at)?,
                _ => (),
            }
        }
        info.map(|info| Info {
            available_mappings,
            iova_ranges,
            ..info
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the words are, reading ends and does not panic.
        #[test]
        fn any_words_are_read(words in prop::collection::vec(any::<u64>(), 8), first in 0u32..80) {
            let mut buffer = [0; INFO_WORDS];
            buffer[..8].copy_from_slice(&words);
            let mut head = [0; 8];
            head[INFO_FLAGS..].copy_from_slice(&VFIO_IOMMU_INFO_CAPS.to_ne_bytes());
            buffer[0] = u64::from_ne_bytes(head);
            let mut chain = [0; 8];
            chain[..4].copy_from_slice(&first.to_ne_bytes());
            buffer[2] = u64::from_ne_bytes(chain);
            Info::read(&buffer);
        }
    }
}
