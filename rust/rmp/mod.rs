// SPDX-License-Identifier: GPL-2.0

//! Follows the RMP: splits a leaf of 2M or more before the RMP entry under it is smashed, and
//! merges it when the entry is whole again.
//!
//! ```text
//! hook.c   probes the kernel's functions      entry     reads the RMP
//!   └─ smash   at their entry and exit        lock      the right to edit; calls in transit
//!        ├─ cursor  block → watches           watch     a contiguous run that is followed
//!        └─ split   splits or merges a block  watches   the watches of a domain
//!             └─ work   what has to sleep     follower  counters, and tables for the hook
//!                                             reserve   tables in stock
//!
//! domain   an IOMMU domain with its watches
//!   map               maps runs that follow the RMP, or starts to follow mapped ones
//!   live, boundaries  edit followed leaves in process context
//!   repair            does what the hook left to process context
//! ```
//!
//! The container decides what is followed and with which policy. This layer does not know
//! containers.

mod boundaries;
mod cursor;
mod domain;
mod entry;
mod follower;
mod hook;
mod live;
mod lock;
mod map;
mod repair;
mod reserve;
mod rmap;
mod smash;
mod split;
mod watch;
mod watches;
mod work;

pub(crate) use self::domain::Domain;
pub(crate) use self::entry::{
    is_snp_host,
    is_snp_on,
    Block,
    RmpEntry,
    RmpReader, //
};
pub(crate) use self::follower::Follower;
pub(crate) use self::hook::{
    check_missed,
    exit,
    init,
    missed,
    Hook,
    Recheck, //
};
pub(crate) use self::lock::Guard;
pub(crate) use self::map::map_contig;
pub(crate) use self::watch::WatchCache;
pub(crate) use self::work::{
    init_work,
    work_later, //
};
