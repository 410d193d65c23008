// SPDX-License-Identifier: GPL-2.0

//! Writes words of the process with locks held, so without page faults.

#![allow(unsafe_code)]

use kernel::prelude::*;

use crate::sys::bindings;

/// Writes `words` at `address`. With `keep`, bits that are set there stay set. Returns `false` if some of
/// the memory is not present, or not writable.
pub(crate) fn put_words(address: usize, words: &[u64], keep: bool) -> bool {
    if keep {
        return words.iter().enumerate().all(|(index, word)| {
            let mut both = 0_u64;
            let at = address.wrapping_add(index.wrapping_mul(size_of::<u64>()));
            let place = (&raw mut both).cast();
            // SAFETY: `place` is valid for as many bytes. What the process's memory is, it finds out.
            let read = unsafe { bindings::pgsize_copy_from_user_now(place, at, size_of::<u64>()) };
            both |= word;
            // SAFETY: As above.
            read && unsafe { bindings::pgsize_copy_to_user_now(at, place, size_of::<u64>()) }
        });
    }
    // SAFETY: As above.
    unsafe { bindings::pgsize_copy_to_user_now(address, words.as_ptr().cast(), size_of_val(words)) }
}

/// Faults in memory of the process for writing. May wait for userspace: call without locks.
///
/// Fails with `EFAULT` if it is not writable.
pub(crate) fn fetch(address: usize, bytes: usize) -> Result {
    // SAFETY: It has no requirements.
    match unsafe { bindings::pgsize_fault_in(address, bytes) } {
        true => Ok(()),
        false => Err(EFAULT),
    }
}

/// Whether all of it is in the address range of processes.
pub(crate) fn may_be_there(address: usize, bytes: usize) -> bool {
    // SAFETY: It has no requirements.
    unsafe { bindings::pgsize_access_ok(address, bytes) }
}
