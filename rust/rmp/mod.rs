// SPDX-License-Identifier: GPL-2.0

//! Following the RMP: a leaf of 2M or more is split before the RMP entry under it is smashed, and merged
//! when the entry is whole again.
//!
//! ```text
//! hook.c   the kernel's functions, probed        entry    what the RMP says
//!   └─ smash   at their entry and exit           lock     who may edit, and which calls are under way
//!        ├─ cursor  block → followed contiguous runs   watch    a followed contiguous run; watches: those of a domain
//!        └─ split   one block, split or merged   follower tables that the hook has ready; counters
//!             └─ work   the rest, for later      reserve
//!
//! domain   a domain, and what of it is followed
//!   map, adopt     contiguous runs that come: mapped, or found mapped when a policy changes
//!   live, edges    edits of followed leaves in process context
//!   repair         what the hook left to do
//! ```
//!
//! What is followed, by which policy, a container says. Which containers there are, is not known here.

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
    is_snp_on,
    Block,
    RmpEntry, //
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
