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
    Look, //
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
    let look = Hook::look();
    let mut next = Number::FIRST;

    // One after the other: whoever comes or goes does not wait for what is done here.
    while let Some(container) = registry::find_from(next) {
        next = container.number.next();
        container.look_after(look);
    }
}

impl Container {
    fn look_after(&self, look: Look) {
        self.look.fetch_max(look as u32, Ordering::Relaxed);
        // Its VMM may make it wait as long as it likes, for memory that does not come: nobody else
        // is to wait for that.
        match self.state.try_lock() {
            Some(mut state) => {
                let look = self.look.swap(Look::No as u32, Ordering::Relaxed);
                state.look_after(Look::of(look));
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
            domain.merge_doubtful();
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
