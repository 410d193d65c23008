// SPDX-License-Identifier: GPL-2.0

//! What of vfio_pgsize needs no kernel, from the very sources that the module is built of: the
//! page-table core, and, in tests alone, what is arithmetic on ranges, with a stand-in for the
//! kernel's crate.

#![cfg_attr(not(test), no_std)]

#[deny(unsafe_code)]
#[path = "../../../../rust/pgtable/mod.rs"]
pub mod pgtable;

#[cfg(test)]
#[path = "../../../../rust/policy.rs"]
mod policy;

#[cfg(test)]
#[path = "../../../../rust/windows.rs"]
mod windows;

#[cfg(test)]
mod intervals;
