// SPDX-License-Identifier: GPL-2.0

//! Killable mutex locking.

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

/// Locks `lock`, as `mutex_lock_killable`. Sleeps. Fails with `EINTR` on a fatal signal.
pub(crate) fn lock_killable<T>(lock: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    let raw = core::ptr::from_ref(lock)
        .cast_mut()
        .cast::<bindings::mutex>();

    // SAFETY: A `Mutex` is `repr(C)` and starts with the `struct mutex`, which is initialized when
    // the `Mutex` is created.
    to_result(unsafe { bindings::pgsize_mutex_lock_killable(raw) })?;
    // SAFETY: The lock is held; the guard of a mutex has no other state.
    Ok(unsafe { MutexGuard::new(lock, ()) })
}
