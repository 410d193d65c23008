// SPDX-License-Identifier: GPL-2.0

//! Mappings, and the part of claims that they use.

#[allow(dead_code)]
#[path = "../../../../../rust/container/mapping.rs"]
pub(crate) mod mapping;

pub(crate) mod claims {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct ClaimId(pub(crate) u64);
}
