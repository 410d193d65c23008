// SPDX-License-Identifier: GPL-2.0

//! Error numbers.

use core::ffi::c_int;

use crate::alloc::AllocError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error(c_int);

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        code::ENOMEM
    }
}

pub type Result<T = (), E = Error> = core::result::Result<T, E>;

pub mod code {
    use super::Error;

    pub const ENOMEM: Error = Error(-12);
    pub const ENOSPC: Error = Error(-28);
}
