// SPDX-License-Identifier: GPL-2.0

//! The first domain of a container that has mappings already, because it has emulated devices; and the
//! last domain of one that keeps its mappings for them.
//!
//! A late domain gets each mapping as if a map request made it now: all mappings are in progress until
//! they are populated.

use kernel::prelude::*;

use super::{
    claims::{
        ClaimId,
        Purpose, //
    },
    devices::Device,
    mapping::{
        InProgress,
        Mapping, //
    },
    Container,
    State, //
};
use crate::{
    iommu::{
        Group,
        Windows, //
    },
    pgtable::IovaRange, //
};

impl Container {
    /// Attaches `group`, which has an IOMMU. For the first domain, pins and maps all mappings. All pages
    /// of stateful mappings stay private.
    ///
    /// Sleeps. Fails as [`State::attach`] and [`Container::populate`], with `EPERM` if the memory belongs
    /// to another process, and with `EINTR` on a fatal signal. Nothing has changed then.
    pub(crate) fn attach(&self, group: Group, unsafe_interrupts: bool) -> Result {
        let mut state = self.lock()?;
        if !state.domains.is_empty() || state.mappings.first_in(IovaRange::ALL).is_none() {
            return state.attach(group, unsafe_interrupts);
        }
        drop(state);

        let (mut state, claim) = self.claim(IovaRange::ALL, Purpose::Attach)?;
        let begun = state.begin_attach(group, unsafe_interrupts, claim);
        drop(state);

        let result = begun.and_then(|before| {
            let result = self.populate_all(claim);
            if result.is_err() {
                self.state.lock().undo_attach(before, claim);
            }
            result
        });
        self.state.lock().claims.end(claim);
        if result.is_err() {
            self.settle(IovaRange::ALL);
        }
        result
    }

    /// Attaches a group of emulated devices, as [`State::attach_emulated`]. Sleeps.
    pub(crate) fn attach_emulated(&self, group: Group) -> Result {
        let mut state = self.lock()?;
        let result = state.attach_emulated(group);
        let removed = state.take_removed();

        drop(state);
        drop(removed);
        result
    }

    /// Detaches `group`, as [`State::detach`]. Sleeps.
    pub(crate) fn detach(&self, group: Group) {
        if self.with_state(|state| state.detach(group)) {
            self.settle(IovaRange::ALL);
        }
    }

    /// Adds a device, which is being opened.
    pub(crate) fn register_device(&self, device: &Device) {
        self.devices.add(device);
    }

    /// Removes a device, which is being closed.
    pub(crate) fn unregister_device(&self, device: &Device) {
        self.devices.remove(device);
    }

    /// Populates each mapping that is in progress for `claim`.
    fn populate_all(&self, claim: ClaimId) -> Result {
        let mut left = Some(IovaRange::ALL);

        while let Some(todo) = left {
            let Some(mapping) = self.lock()?.first_claimed(todo, claim) else {
                break;
            };
            if !mapping.locked.is_of_current() {
                return Err(EPERM);
            }
            let mixed = self.with_call_scratch(|call_scratch| {
                self.populate(&mapping, mapping.range, &mut call_scratch.pins)
            })?;
            let mut state = self.state.lock();
            let start = mapping.range.start();
            if let Some(made) = state.mappings.in_progress_at(start, claim) {
                // INVARIANT: All of it is mapped and pinned.
                made.mixed = mixed;
                made.in_progress = None;
            }
            left = IovaRange::ALL.behind(mapping.range.last());
        }
        Ok(())
    }

    /// Settles the accounts of all mappings in `range`. Takes mmap_lock.
    pub(super) fn settle(&self, range: IovaRange) {
        let mut left = Some(range);
        let next = |left| {
            let state = self.state.lock();
            state.mappings.first_in(left).map(Mapping::copy)
        };

        while let Some(mapping) = left.and_then(next) {
            mapping.locked.settle();
            left = range.behind(mapping.range.last());
        }
    }
}

impl State {
    /// Adds the first domain, for `group`. All mappings that have to be populated are then in progress for
    /// `claim`. Returns the windows before.
    fn begin_attach(
        &mut self,
        group: Group,
        unsafe_interrupts: bool,
        claim: ClaimId,
    ) -> Result<Windows> {
        let (domain, windows) = self.domain_for(group, unsafe_interrupts)?;
        let mut left = Some(IovaRange::ALL);

        self.domains.push(domain, GFP_KERNEL_ACCOUNT)?;
        self.choose_grain();
        self.shrink_leaves();
        self.keep_reserve();
        while let Some(mapping) = left.and_then(|left| self.mappings.first_in_mut(left)) {
            left = IovaRange::ALL.behind(mapping.range.last());
            if !mapping.stateful {
                // INVARIANT: Nothing of it is mapped yet.
                mapping.mixed = true;
                mapping.in_progress = Some(InProgress {
                    claim,
                    joins: false,
                    mapped: None,
                });
            }
        }
        self.emulated.charge_with(&self.mappings);
        Ok(core::mem::replace(&mut self.windows, windows))
    }

    /// The first mapping in `range` that is in progress for `claim`.
    fn first_claimed(&self, range: IovaRange, claim: ClaimId) -> Option<Mapping> {
        let is_claimed = |mapping: &Mapping| {
            mapping
                .in_progress
                .is_some_and(|in_progress| in_progress.claim == claim)
        };

        self.mappings.overlapping(range).find(is_claimed)
    }

    /// Removes the first domain again, and restores `windows`.
    fn undo_attach(&mut self, windows: Windows, claim: ClaimId) {
        let mut left = Some(IovaRange::ALL);

        self.unmap_from_last();
        while let Some(found) = left.and_then(|left| self.first_claimed(left, claim)) {
            left = IovaRange::ALL.behind(found.range.last());
            if let Some(now) = self.mappings.first_in_mut(found.range) {
                now.in_progress = None;
            }
        }
        self.domains.clear();
        self.choose_grain();
        self.windows = windows;
    }
}
