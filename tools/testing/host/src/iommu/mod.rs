// SPDX-License-Identifier: GPL-2.0

//! Windows, and the part of the rest that mappings use.

#[path = "../../../../../rust/iommu/windows.rs"]
pub(crate) mod windows;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access(pub(crate) u8);
