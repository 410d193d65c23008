// SPDX-License-Identifier: GPL-2.0

//! What devices may do with what is mapped.

use kernel::prelude::*;

use crate::sys::bindings;

/// What devices may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Access {
    /// The `prot` of `iommu_map`; DMA is coherent with the processors' caches.
    pub(super) fn prot(self) -> c_int {
        let read = if self.read { bindings::IOMMU_READ } else { 0 };
        let write = if self.write { bindings::IOMMU_WRITE } else { 0 };

        (read | write | bindings::IOMMU_CACHE) as c_int
    }
}
