// SPDX-License-Identifier: GPL-2.0

//! Registering the hook, for as long as anything is followed: see `hook.c`.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::lock::Guard;
use crate::sys::bindings;

kernel::sync::global_lock! {
    // SAFETY: Initialised when the module is loaded, before anything else.
    unsafe(uninit) static HOOKS: Mutex<Hooks> = Hooks::NONE;
}

/// Who wants the hook, and whether it is there.
struct Hooks {
    users: u32,
    registered: bool,
}

impl Hooks {
    const NONE: Self = Self {
        users: 0,
        registered: false,
    };

    /// Says how many follow, for debugfs.
    fn update_count(&self) {
        // SAFETY: The lock is held: `self` is behind it.
        unsafe { bindings::pgsize_hook_followers(self.users) };
    }
}

/// Gets the count of hooks ready. Once, when the module is loaded.
pub(crate) fn init() {
    // SAFETY: It is called when the module is loaded, once.
    unsafe { HOOKS.init() };
}

/// The end of the hook and of the worker, which nobody wants any more. May sleep. Once, when the module
/// goes.
pub(crate) fn exit() {
    Hook::unregister_unused();
    // SAFETY: Nothing starts either again: there is nobody who follows, and no hook.
    unsafe {
        bindings::pgsize_hook_exit();
        bindings::pgsize_work_cancel();
    }
}

/// Has the worker run if a call went by unseen of which it does not know. Atomic.
pub(crate) fn check_missed() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_missed_check() };
}

/// How many calls went by unseen since anybody follows.
pub(crate) fn missed() -> u64 {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_hook_missed() }
}

/// Whether what is followed is to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Recheck {
    No,
    /// Calls that nobody saw may have taken effect late, or SNP is on again.
    Silent,
    /// A call went by unseen, or SNP was switched off: the VMM is to be told.
    Notify,
}

impl Recheck {
    /// The one that has this number.
    pub(crate) fn of(number: u32) -> Self {
        match number {
            0 => Self::No,
            1 => Self::Silent,
            _ => Self::Notify,
        }
    }
}

/// The hook is registered as long as one of these is there, and some seconds more: to put it in and
/// take it out patches the kernel's code and waits for all tasks, which nobody is to have done at will.
pub(crate) struct Hook(());

impl Hook {
    /// May sleep. Fails with `EOPNOTSUPP` where there is nothing to follow: on no SNP host, while SNP
    /// is off, or where the kernel's functions can not be probed.
    pub(crate) fn new() -> Result<Self> {
        let mut hooks = HOOKS.lock();

        if !hooks.registered {
            Guard::lock().reset();
            // SAFETY: The lock is held, and it is not registered.
            kernel::error::to_result(unsafe { bindings::pgsize_hook_register() })?;
            hooks.registered = true;
        } else if hooks.users == 0 {
            // SAFETY: The lock is held, and it is registered and idle.
            unsafe { bindings::pgsize_hook_resume() };
        }
        hooks.users = hooks.users.saturating_add(1);
        hooks.update_count();
        Ok(Self(()))
    }

    /// Whether a call went by unseen since this was last asked, while anybody follows, or may have; or
    /// SNP was switched off, or on again. May sleep.
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

    /// Takes the hook out if nobody wants it. May sleep.
    fn unregister_unused() {
        let mut hooks = HOOKS.lock();

        if hooks.users == 0 && hooks.registered {
            // SAFETY: The lock is held, and it is registered.
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
            // SAFETY: The lock is held, and it is registered.
            unsafe { bindings::pgsize_hook_idle() };
        }
    }
}

/// Nobody has wanted the hook for some seconds: see `work.c`.
#[no_mangle]
extern "C" fn pgsize_hook_expire() {
    Hook::unregister_unused();
}
