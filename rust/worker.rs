// SPDX-License-Identifier: GPL-2.0

//! The worker: does in process context, for all containers, what the hook leaves to it, and tells
//! the VMMs.

#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::prelude::*;

use crate::{
    bindings,
    container::{
        Container,
        State, //
    },
    follow::{
        Hook,
        Look, //
    }, //
};

kernel::sync::global_lock! {
    // SAFETY: Initialised when the module is loaded, before anything else.
    pub(crate) unsafe(uninit) static CONTAINERS: Mutex<KVec<Known>> = KVec::new();
}

/// A container that the worker looks after: from [`Container::introduce`] to [`Container::part`].
pub(crate) struct Known {
    container: NonNull<Container>,
    /// What it was too busy for.
    look: Look,
}

// SAFETY: A container may be used from any thread.
unsafe impl Send for Known {}

impl Container {
    /// Has the worker look after it.
    pub(crate) fn introduce(&self) -> Result {
        Ok(CONTAINERS.lock().push(
            Known {
                container: self.into(),
                look: Look::No,
            },
            GFP_KERNEL,
        )?)
    }

    /// No more.
    pub(crate) fn part(&self) {
        let mut containers = CONTAINERS.lock();

        containers.retain(|known| known.container != self.into());
        if containers.is_empty() {
            // Nobody drops what is static: the module may go.
            *containers = KVec::new();
        }
    }
}

/// What was left to do: see `worker.c`.
#[no_mangle]
extern "C" fn pgsize_work() {
    let look = Hook::look();
    let mut containers = CONTAINERS.lock();

    for known in containers.iter_mut() {
        known.look = known.look.max(look);
        // SAFETY: It is known until it parts, under this lock.
        let container = unsafe { known.container.as_ref() };
        // Its VMM may make it wait as long as it likes, for memory that does not come: nobody else
        // is to wait for that.
        match container.state.try_lock() {
            Some(mut state) => {
                state.look_after(core::mem::replace(&mut known.look, Look::No));
            }
            None => work_later(),
        }
    }
}

impl State {
    /// Does what the hook left to do, and what it did not see.
    fn look_after(&mut self, look: Look) {
        if look != Look::No && self.hook.is_some() {
            for domain in &self.domains {
                domain.mend_missed();
            }
            if look == Look::Tell {
                self.follower.alarm();
            }
        }
        if self.repair_lost().is_err() {
            work_later();
        }
        for domain in &self.domains {
            domain.merge_shared();
        }
        // SAFETY: The mutex is held, and nothing is read any more.
        unsafe { self.follower.free_retired() };
        self.keep_reserve();
        if let Some(event) = &self.event {
            if self.follower.take_alarm() {
                event.signal();
            }
        }
    }
}

/// Has the worker run. Atomic.
pub(crate) fn work_now() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_now() };
}

/// Has the worker run within some milliseconds. Atomic.
pub(crate) fn work_soon() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_soon() };
}

/// Has the worker run when things have calmed down. Atomic.
pub(crate) fn work_later() {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_work_later() };
}
