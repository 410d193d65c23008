// SPDX-License-Identifier: GPL-2.0

//! IOMMU domains: attached groups, page table, map, unmap, IOTLB flush.
//!
//! A page may be unpinned only with a [`Flushed`], which the flush returns. The callers decide what
//! is mapped, and with which leaf sizes.

mod access;
mod convert;
mod dirty;
mod domain;
mod flush;
mod group;
mod read;
mod table;
mod table_pages;
mod unmap;
mod windows;

pub(crate) use self::access::Access;
pub(crate) use self::convert::{
    convert_new,
    convert_part, //
};
pub(crate) use self::dirty::Reading;
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
