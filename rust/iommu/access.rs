// SPDX-License-Identifier: GPL-2.0

//! DMA permissions.

use kernel::prelude::*;

use crate::sys::bindings;

/// DMA permissions of a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// Devices may read.
    pub(crate) read: bool,
    /// Devices may write.
    pub(crate) write: bool,
}

impl Access {
    /// The `prot` argument of `iommu_map`. DMA is cache coherent.
    pub(super) fn prot(self) -> c_int {
        let read = if self.read { bindings::IOMMU_READ } else { 0 };
        let write = if self.write { bindings::IOMMU_WRITE } else { 0 };

        (read | write | bindings::IOMMU_CACHE) as c_int
    }
}
