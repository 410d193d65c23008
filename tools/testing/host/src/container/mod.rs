// SPDX-License-Identifier: GPL-2.0

//! Mappings, joined ones with their pieces, and the part of claims that mappings use.

#[allow(dead_code)]
#[path = "../../../../../rust/container/joined.rs"]
pub(crate) mod joined;

#[allow(dead_code)]
#[path = "../../../../../rust/container/joined_entry.rs"]
pub(crate) mod joined_entry;

#[allow(dead_code)]
#[path = "../../../../../rust/container/mapping.rs"]
pub(crate) mod mapping;

#[path = "../../../../../rust/container/parts.rs"]
pub(crate) mod parts;

#[path = "../../../../../rust/container/pieces.rs"]
pub(crate) mod pieces;

pub(crate) mod claims {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct ClaimId(pub(crate) u64);
}
