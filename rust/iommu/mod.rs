// SPDX-License-Identifier: GPL-2.0

//! IOMMU domains: a page table, the groups that are attached to it, and the flush of the IOTLB.
//!
//! What is mapped, for whom, and why these leaf sizes, is not known here. What was taken out of a page
//! table may be unpinned only with a [`Flushed`] in hand.

mod access;
mod convert;
mod domain;
mod flush;
mod group;
mod read;
mod table;
mod table_pages;
mod unmap;
mod windows;

pub(crate) use self::access::Access;
pub(crate) use self::convert::convert_part;
pub(crate) use self::domain::{
    Domain,
    PIECE, //
};
pub(crate) use self::flush::{
    Flushed,
    Gather, //
};
pub(crate) use self::group::Group;
pub(crate) use self::table::{
    Layout,
    PageTable, //
};
pub(crate) use self::table_pages::{
    new_table,
    Prealloc,
    Store,
    TableSource, //
};
pub(crate) use self::windows::Windows;
