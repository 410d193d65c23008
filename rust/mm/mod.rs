// SPDX-License-Identifier: GPL-2.0

//! Process memory: pinning and accounting.

mod early;
mod locked_vm;
mod mmap_lock;
mod pfnmap;
mod pin;
mod pinned;
mod remote;
mod user_addr;
mod user_bitmap;

pub(crate) use self::early::EarlyPins;
pub(crate) use self::locked_vm::Locked;
pub(crate) use self::mmap_lock::Plain;
pub(crate) use self::pin::{
    Buffer,
    Pinner, //
};
pub(crate) use self::pinned::{
    memory_pages,
    page_at,
    phys_of,
    unpin,
    Kind,
    PinnedRun, //
};
pub(crate) use self::remote::{
    copy,
    pin_pages, //
};
pub(crate) use self::user_addr::UserAddr;
pub(crate) use self::user_bitmap::{
    fetch,
    may_be_there,
    put_words, //
};
