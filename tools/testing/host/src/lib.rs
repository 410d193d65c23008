// SPDX-License-Identifier: GPL-2.0

//! The page-table core of vfio_pgsize, from the very sources that the kernel module is built of.

#![cfg_attr(not(test), no_std)]

#[deny(unsafe_code)]
#[path = "../../../../rust/pgtable/mod.rs"]
pub mod pgtable;
