// SPDX-License-Identifier: GPL-2.0

//! Registers the hook while anything is followed: see `hook.c`.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::lock::Guard;
use crate::sys::bindings;

kernel::sync::global_lock! {
    // SAFETY: Initialized when the module is loaded, before any use.
    unsafe(uninit) static HOOKS: Mutex<Hooks> = Hooks::NONE;
}

/// The users of the hook, and whether it is registered.
struct Hooks {
    users: u32,
    registered: bool,
}

impl Hooks {
    const NONE: Self = Self {
        users: 0,
        registered: false,
    };

    /// Shows the number of users in debugfs.
    fn update_count(&self) {
        // SAFETY: The lock is held: it protects `self`.
        unsafe { bindings::pgsize_hook_followers(self.users) };
    }
}

/// Initializes the users of the hook. Call once, when the module is loaded.
pub(crate) fn init() {
    // SAFETY: Called once, before any use.
    unsafe { HOOKS.init() };
}

/// Unregisters the hook and cancels the worker. Call once, when the module is unloaded. Sleeps.
pub(crate) fn exit() {
    Hook::unregister_unused();
    // SAFETY: There are no users and no hook, so neither is started again.
    unsafe {
        bindings::pgsize_hook_exit();
        bindings::pgsize_work_cancel();
    }
}

/// Queues the worker if there is a missed call that it does not know of. Atomic.
pub(crate) fn check_missed() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_missed_check() };
}

/// Number of missed calls (not reported by fprobe) since the hook got its first user. Atomic.
pub(crate) fn missed() -> u64 {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_hook_missed() }
}

/// Whether the worker has to compare all followed leaves with the RMP.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Recheck {
    /// No.
    No,
    /// Yes: missed calls may have taken effect later, or SNP is on again.
    Silent,
    /// Yes, and notify the VMM: a call was missed, or SNP was disabled.
    Notify,
}

impl Recheck {
    /// From its number.
    pub(crate) fn of(number: u32) -> Self {
        match number {
            0 => Self::No,
            1 => Self::Silent,
            _ => Self::Notify,
        }
    }
}

/// A user of the hook. The hook stays registered for some seconds after the last user is gone:
/// registration patches kernel text and waits for all tasks, and userspace must not be able to
/// cause that at a high rate.
pub(crate) struct Hook {
    /// The number of missed calls that the user knows of.
    known: u64,
}

impl Hook {
    /// Registers the hook if necessary. Sleeps. Fails with `EOPNOTSUPP` if there is no RMP, SNP is
    /// off, or the kernel's functions cannot be probed.
    pub(crate) fn new() -> Result<Self> {
        let mut hooks = HOOKS.lock();

        if !hooks.registered {
            Guard::lock().reset();
            // SAFETY: The lock is held, and the hook is not registered.
            kernel::error::to_result(unsafe { bindings::pgsize_hook_register() })?;
            hooks.registered = true;
        } else if hooks.users == 0 {
            // SAFETY: The lock is held, and the hook is registered and idle.
            unsafe { bindings::pgsize_hook_resume() };
        }
        hooks.users = hooks.users.saturating_add(1);
        hooks.update_count();
        Ok(Self { known: missed() })
    }

    /// Number of missed calls that the user does not know of yet: since it became one, or since
    /// [`Self::know`]. Atomic.
    pub(crate) fn unknown(&self) -> u64 {
        missed().saturating_sub(self.known)
    }

    /// The user knows of `number` more missed calls.
    pub(crate) fn know(&mut self, number: u64) {
        self.known = self.known.saturating_add(number);
    }

    /// Whether a recheck is necessary because of what happened since the last call. Sleeps.
    pub(crate) fn take_recheck() -> Recheck {
        let hooks = HOOKS.lock();

        if hooks.users == 0 {
            return Recheck::No;
        }
        // SAFETY: The lock is held.
        match unsafe { bindings::pgsize_missed_take() } {
            bindings::pgsize_recheck_PGSIZE_RECHECK_NONE => Recheck::No,
            bindings::pgsize_recheck_PGSIZE_RECHECK_SILENT => Recheck::Silent,
            _ => Recheck::Notify,
        }
    }

    /// Unregisters the hook if it has no user. Sleeps.
    fn unregister_unused() {
        let mut hooks = HOOKS.lock();

        if hooks.users == 0 && hooks.registered {
            // SAFETY: The lock is held, and the hook is registered.
            unsafe { bindings::pgsize_hook_unregister() };
            hooks.registered = false;
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let mut hooks = HOOKS.lock();

        hooks.users = hooks.users.saturating_sub(1);
        hooks.update_count();
        if hooks.users == 0 {
            // SAFETY: The lock is held, and the hook is registered.
            unsafe { bindings::pgsize_hook_idle() };
        }
    }
}

/// The hook had no user for some seconds: see `work.c`.
#[no_mangle]
extern "C" fn pgsize_hook_expire() {
    Hook::unregister_unused();
}
