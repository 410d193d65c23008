// SPDX-License-Identifier: GPL-2.0

//! Emulated devices (mdev): they do no DMA. They pin single pages, and unpin them when they are told to.
//!
//! A tree has the pages that they have pinned, and nothing else: without such devices it is empty. These
//! pages are charged only while the container has no domain: in a domain they are charged already.

use kernel::{
    pr_warn_once,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

use super::{
    is_complete,
    Container,
    State, //
};
use crate::pgtable::IovaRange;

/// Milliseconds to wait before devices are told again: a driver that takes no lock may be told before it
/// knows what `pin_pages()` has pinned for it.
const PAUSES: [i64; 10] = [1, 1, 1, 2, 4, 8, 16, 32, 64, 128];

/// The result of a first attempt to remove pages.
enum Attempt<R> {
    /// No page was pinned.
    Done(R),
    /// Devices have to be told; the number of the leaving range.
    Pinned(u64),
}

impl State {
    /// The first part of a mapping within `range` that has a pinned page: devices are told of this part.
    fn first_pinned(&self, range: IovaRange) -> Option<IovaRange> {
        let page = self.emulated.first_in(range)?;
        let mapping = self.mappings.at(page)?;

        mapping.range.intersect(range)
    }

    /// Emulated devices have written to `range`, or can from now on. No page table has a dirty bit for
    /// that.
    pub(super) fn note_written(&mut self, range: IovaRange) {
        if self.is_tracking() {
            self.emulated.written.add(range);
        }
    }

    /// Userspace was told what was written in `range`. Pages that are still pinned stay.
    pub(super) fn told(&mut self, range: IovaRange) {
        let made = self.mappings.overlapping(range);

        for mapping in made.filter(is_complete) {
            if let Some(part) = mapping.range.intersect(range) {
                self.emulated.written.remove(part);
                self.emulated.write_pinned(part);
            }
        }
    }

    /// Forgets the pins in `range`, whose mapping is removed with the last group. The devices are
    /// closed and should have unpinned the pages. The pages stay pinned: a driver may use them. What was
    /// written there is told no more.
    pub(super) fn forget_pins(&mut self, range: IovaRange) {
        self.emulated.written.remove(range);
        while let Some(page) = self.emulated.first_in(range) {
            pr_warn_once!("an emulated device was closed and did not unpin its pages\n");
            if let Some(pin) = self.emulated.remove(page) {
                pin.page.keep();
            }
        }
    }
}

impl Container {
    /// Calls `work`, which unmaps pages of `range`, when no other call works there. If emulated devices
    /// have pinned pages of the range, and `check` succeeds, tells them to unpin first. Until `work` has
    /// returned, no page of the range can be pinned.
    ///
    /// Sleeps. Fails as both closures, with `EBUSY` if a device has not unpinned, `EINTR` on a fatal
    /// signal, and `ENOMEM`.
    pub(super) fn when_unpinned<R>(
        &self,
        range: IovaRange,
        check: impl FnOnce(&State) -> Result,
        mut work: impl FnMut(&mut State) -> Result<R>,
    ) -> Result<R> {
        let attempt = self.when_unclaimed(range, |state| {
            if state.emulated.first_in(range).is_none() {
                return work(state).map(Attempt::Done);
            }
            check(state)?;
            state.emulated.leave(range).map(Attempt::Pinned)
        })?;
        let number = match attempt {
            Attempt::Done(result) => return Ok(result),
            Attempt::Pinned(number) => number,
        };

        let mut result = Err(EBUSY);
        for pause in PAUSES {
            self.tell(range);
            let done = self.when_unclaimed(range, |state| {
                if state.emulated.first_in(range).is_some() {
                    return Ok(None);
                }
                work(state).map(Some)
            });
            if let Some(done) = done.transpose() {
                result = done;
                break;
            }
            // A driver may learn of its pages only now.
            fsleep(Delta::from_millis(pause));
        }
        self.state.lock().emulated.left(number);
        if matches!(result, Err(EBUSY)) {
            pr_warn_once!("an emulated device does not unpin in dma_unmap()\n");
        }
        result
    }

    /// Tells devices, for each mapping in `range` with pinned pages, to unpin them.
    fn tell(&self, range: IovaRange) {
        let mut left = Some(range);
        let next = |left| self.state.lock().first_pinned(left);

        while let Some(part) = left.and_then(next) {
            self.devices.tell(part);
            left = range.behind(part.last());
        }
    }
}
