// SPDX-License-Identifier: GPL-2.0

//! A stand-in for the kernel crate: what the sources that are tested on the host use, with the same
//! names, and with allocations that can be made to fail.

pub mod alloc;
pub mod error;
pub mod rbtree;
pub mod sync;

pub mod prelude {
    pub use crate::alloc::{
        KVVec,
        KVec,
        GFP_KERNEL_ACCOUNT, //
    };
    pub use crate::error::{
        code::*,
        Error,
        Result, //
    };
}
