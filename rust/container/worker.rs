// SPDX-License-Identifier: GPL-2.0

//! The worker: does in process context, for all containers, what the hook leaves to it, and tells
//! the VMMs.

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

/// Gets the list of containers ready, and has the worker look after them. Once, when the module is
/// loaded.
pub(crate) fn init() {
    // SAFETY: It is called when the module is loaded, once.
    unsafe { CONTAINERS.init() };
    init_work(work);
}

/// What was left to do: see [`rmp`](crate::rmp).
extern "C" fn work() {
    let recheck = Hook::take_recheck();
    let mut next = Number::FIRST;

    // One after the other: whoever comes or goes does not wait for what is done here.
    while let Some(container) = registry::find_from(next) {
        next = container.number.next();
        container.maintain(recheck);
    }
}

impl Container {
    fn maintain(&self, recheck: Recheck) {
        self.recheck.fetch_max(recheck as u32, Ordering::Relaxed);
        // Its VMM may make it wait as long as it likes, for memory that does not come: nobody else
        // is to wait for that.
        match self.state.try_lock() {
            Some(mut state) => {
                let recheck = self.recheck.swap(Recheck::No as u32, Ordering::Relaxed);
                state.maintain(Recheck::of(recheck));
            }
            None => work_later(),
        }
    }
}

impl State {
    /// Does what the hook left to do, and what it did not see.
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
        // SAFETY: The mutex is held, and nothing is read any more.
        unsafe { self.follower.free_retired() };
        self.keep_reserve();
        if let Some(event) = &self.event {
            if self.follower.take_event_pending() {
                event.signal();
            }
        }
    }
}
