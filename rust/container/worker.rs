// SPDX-License-Identifier: GPL-2.0

//! The worker: does what the hook leaves to process context, for all containers, and notifies VMMs.

#![allow(unsafe_code)]

use core::sync::atomic::Ordering;

use super::{
    number::Number,
    registry::{
        self,
        CONTAINERS, //
    },
    Container,
    State, //
};
use crate::rmp::{
    init_work,
    work_later,
    Hook,
    Recheck, //
};

/// Initializes the list of containers and the worker. Call once, when the module is loaded.
pub(crate) fn init() {
    // SAFETY: Called once, before any use.
    unsafe { CONTAINERS.init() };
    init_work(work);
}

/// The work function: see [`rmp`](crate::rmp).
extern "C" fn work() {
    let recheck = Hook::take_recheck();
    let mut next = Number::FIRST;

    // One container at a time, without holding the list.
    while let Some(container) = registry::find_from(next) {
        next = container.number.next();
        container.maintain(recheck);
    }
}

impl Container {
    fn maintain(&self, recheck: Recheck) {
        self.recheck.fetch_max(recheck as u32, Ordering::Relaxed);
        // Skip a container that is locked: a VMM can make its calls sleep for long, and others must
        // not wait for that.
        match self.state.try_lock() {
            Some(mut state) => {
                let recheck = self.recheck.swap(Recheck::No as u32, Ordering::Relaxed);
                state.maintain(Recheck::of(recheck));
                self.warn(&mut state);
            }
            None => work_later(),
        }
    }
}

impl State {
    /// Does the deferred work of a container, and the `recheck`.
    fn maintain(&mut self, recheck: Recheck) {
        if recheck != Recheck::No && self.hook.is_some() {
            for domain in &self.domains {
                domain.split_mismatched_missed();
            }
            if recheck == Recheck::Notify {
                self.follower.notify_vmm();
            }
        }
        if self.repair_lost().is_err() {
            work_later();
        }
        for domain in &self.domains {
            domain.merge_rechecked();
        }
        // SAFETY: The mutex is held, and nothing reads page tables now.
        unsafe { self.follower.free_retired() };
        self.keep_reserve();
        if let Some(event) = &self.event {
            if self.follower.take_event_pending() {
                event.signal();
            }
        }
    }
}
