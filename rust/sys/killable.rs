// SPDX-License-Identifier: GPL-2.0

//! Waiting for a mutex until a fatal signal comes.

#![allow(unsafe_code)]

use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        lock::mutex::MutexGuard,
        Mutex, //
    }, //
};

use super::bindings;

/// Takes `lock`. Sleeps; fails with `EINTR` if a fatal signal came.
pub(crate) fn lock_killable<T>(lock: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    let raw = core::ptr::from_ref(lock)
        .cast_mut()
        .cast::<bindings::mutex>();

    // SAFETY: A `Mutex` is of C's layout, and begins with the `struct mutex`, which was initialised
    // when it was made.
    to_result(unsafe { bindings::pgsize_mutex_lock_killable(raw) })?;
    // SAFETY: It was just taken; a mutex's guard has no more state.
    Ok(unsafe { MutexGuard::new(lock, ()) })
}
