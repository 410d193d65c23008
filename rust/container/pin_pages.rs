// SPDX-License-Identifier: GPL-2.0

//! `pin_pages()` and `unpin_pages()` of emulated devices.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    claims::Purpose,
    is_complete,
    mapping::Mapping,
    pins::{
        page_of,
        Pin,
        PinRoom, //
    },
    Container,
    Kind as IommuType,
    State, //
};
use crate::{
    iommu::Access,
    mm::{
        self,
        phys_of,
        Kind,
        Locked,
        PinnedRun, //
    },
    pgtable::{
        Iova,
        IovaRange,
        PAGE_BYTES, //
    },
    sys::{
        bindings,
        num::to_u64, //
    }, //
};

/// VFIO's array of pages.
type Pages = [*mut bindings::page];

/// Consecutive pages of a mapping that no device has pinned yet.
struct New {
    /// The index of the first page in the request.
    first: usize,
    count: usize,
    /// The mapping from the first page on.
    mapping: Mapping,
    /// The number of charged pages.
    charged: u64,
}

/// A pin request.
struct Job<'p> {
    range: IovaRange,
    pages: &'p mut Pages,
    /// The pages that are not in the tree, in ascending order. The others get one more reference.
    new: KVec<New>,
    /// The number of pages, from the first on, that were looked up.
    known: usize,
    /// The number of elements of `new` that are pinned.
    pinned: usize,
}

impl Container {
    /// Pins all pages of `range` for `access`, or none, and fills `pages`. Claims the range, and pins
    /// without the container's lock.
    ///
    /// Sleeps. Fails with `EACCES` if the container is of [`super::Kind::Type1`], as in type1; `EINVAL` if a
    /// page is not mapped, not memory, or is being removed; `EPERM` if the
    /// mapping does not permit the access or the page is private; `EOVERFLOW` if a page is pinned too
    /// often; and as [`mm::pin_pages`] and [`Locked::charge`].
    pub(crate) fn pin_pages(&self, range: IovaRange, access: Access, pages: &mut Pages) -> Result {
        if self.kind == IommuType::Type1 {
            return Err(EACCES);
        }
        let mut rooms = KVec::with_capacity(pages.len(), GFP_KERNEL_ACCOUNT)?;
        for _ in pages.iter() {
            rooms.push(PinRoom::new()?, GFP_KERNEL_ACCOUNT)?;
        }
        let mut job = Job {
            range,
            pages,
            new: KVec::new(),
            known: 0,
            pinned: 0,
        };
        let (mut state, claim) = self.claim(range, Purpose::Pin)?;
        let mut result = state.look_at_pages(&mut job, access);
        drop(state);

        if result.is_ok() {
            result = job.pin();
        }
        // The last domain may go at any time.
        let mut state = self.state.lock();
        while result.is_ok() && state.domains.is_empty() && !job.is_charged() {
            drop(state);
            result = job.charge();
            state = self.state.lock();
        }
        let alone = state.domains.is_empty();
        if result.is_ok() {
            result = state.note_pins(&mut job, rooms, alone);
        }
        let uncharged = result.is_err() && state.take_back_pins(&job);
        state.claims.end(claim);
        drop(state);

        if result.is_err() {
            job.undo();
        }
        job.settle(result.is_ok() && alone);
        if uncharged {
            self.settle(range);
        }
        result
    }

    /// Unpins each page of `range` once.
    pub(crate) fn unpin_pages(&self, range: IovaRange) {
        let mut left = Some(range);

        while let Some(todo) = left {
            let mut state = self.state.lock();
            let unpinned = state.unpin_in_first_mapping(todo);
            // Settling takes mmap_lock.
            drop(state);
            let Some((last, locked)) = unpinned else {
                // A bug of the driver.
                kernel::warn_on!(true);
                break;
            };
            if let Some(locked) = locked {
                locked.settle();
            }
            left = todo.behind(last);
        }
    }
}

impl Job<'_> {
    /// The IOVA of a page of the request.
    fn iova(&self, index: usize) -> Option<Iova> {
        let offset = to_u64(index).checked_mul(PAGE_BYTES)?;

        self.range.start().checked_add(offset)
    }

    /// Adds a page to `new`.
    fn add(&mut self, index: usize, mapping: &Mapping, page: IovaRange) -> Result {
        let follows = |last: &&mut New| {
            let end = last.first.saturating_add(last.count);
            end == index && last.mapping.range.contains(page.start())
        };
        if let Some(last) = self.new.last_mut().filter(follows) {
            last.count = last.count.saturating_add(1);
            return Ok(());
        }
        let from = mapping.range.from(page.start()).ok_or(EINVAL)?;
        let new = New {
            first: index,
            count: 1,
            mapping: mapping.part(from),
            charged: 0,
        };

        self.new.push(new, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Pins the new pages. Sleeps.
    fn pin(&mut self) -> Result {
        for new in &self.new {
            let last = new.first.saturating_add(new.count);
            let pages = self.pages.get_mut(new.first..last).ok_or(EINVAL)?;
            let Mapping { memory, access, .. } = new.mapping;

            mm::pin_pages(&new.mapping.locked, memory, pages, access.write)?;
            self.pinned = self.pinned.saturating_add(1);
        }
        Ok(())
    }

    fn is_charged(&self) -> bool {
        self.new.iter().all(|new| new.charged == to_u64(new.count))
    }

    /// Charges the new pages. Takes mmap_lock.
    fn charge(&mut self) -> Result {
        for new in self.new.iter_mut().filter(|new| new.charged == 0) {
            let pages = to_u64(new.count);
            new.mapping.locked.charge(pages)?;
            new.charged = pages;
        }
        Ok(())
    }

    /// The pages of `new`, which are pinned, as runs that own the pins.
    fn runs(&self, new: &New) -> impl Iterator<Item = PinnedRun> + '_ {
        let last = new.first.saturating_add(new.count);
        let pages = self.pages.get(new.first..last).unwrap_or(&[]);
        let frames = pages.iter().filter_map(|page| phys_of(*page));

        frames.map(|phys| PinnedRun::new(phys, 1, Kind::Memory))
    }

    /// Unpins the new pages, which no device has seen.
    fn undo(&mut self) {
        for new in self.new.iter().take(self.pinned) {
            self.runs(new).for_each(drop);
        }
        self.pages.fill(core::ptr::null_mut());
    }

    /// Uncharges the new pages, unless the charge is `kept`.
    fn settle(&self, kept: bool) {
        for new in self.new.iter().filter(|new| new.charged != 0 && !kept) {
            new.mapping.locked.release(new.charged);
            new.mapping.locked.settle();
        }
    }
}

impl State {
    /// Finds the new pages, and takes a reference to the others.
    fn look_at_pages(&mut self, job: &mut Job<'_>, access: Access) -> Result {
        for index in 0..job.pages.len() {
            let page = page_of(job.iova(index).ok_or(EINVAL)?);
            let mapping = self
                .mappings
                .at(page.start())
                .filter(|found| is_complete(found));
            let mapping = mapping.ok_or(EINVAL)?;
            let granted = mapping.access;

            if access.read && !granted.read || access.write && !granted.write {
                return Err(EPERM);
            }
            if !self.is_shared_in(mapping, page) {
                return Err(EPERM);
            }
            match self.emulated.get_mut(page.start()) {
                Some(pin) => {
                    pin.count = pin.count.checked_add(1).ok_or(EOVERFLOW)?;
                    if let Some(slot) = job.pages.get_mut(index) {
                        *slot = pin.page.first_page();
                    }
                }
                None => job.add(index, mapping, page)?,
            }
            job.known = index.saturating_add(1);
        }
        Ok(())
    }

    /// Whether no page of `range` of `mapping` is private.
    pub(super) fn is_shared_in(&self, mapping: &Mapping, range: IovaRange) -> bool {
        if !mapping.stateful {
            return true;
        }
        let Some(source) = self.source().and_then(|index| self.domains.get(index)) else {
            return false;
        };
        let mut left = Some(range);

        while let Some(todo) = left {
            let page = page_of(todo.start());
            if source.skip_holes(page).is_none() && !source.watches().lost_in(page) {
                return false;
            }
            left = range.behind(page.last());
        }
        true
    }

    /// Adds the new pages to the tree. `alone`: they are charged.
    fn note_pins(&mut self, job: &mut Job<'_>, mut rooms: KVec<PinRoom>, alone: bool) -> Result {
        // A claimed mapping is removed only with the last group.
        let is_there = |new: &New| {
            let first = page_of(new.mapping.range.start());
            self.same(&new.mapping, first).is_some()
        };
        if !job.new.iter().all(is_there) {
            return Err(EINVAL);
        }
        for new in &job.new {
            let mut next = Some(new.mapping.range.start());
            for mut page in job.runs(new) {
                let (Some(iova), Some(room)) = (next, rooms.pop()) else {
                    break;
                };
                page.was_mapped(new.mapping.access.write);
                let pin = Pin {
                    page,
                    count: 1,
                    charged: alone,
                };
                self.emulated.insert(room, iova, pin);
                next = iova.checked_add(PAGE_BYTES);
            }
        }
        self.note_written(job.range);
        Ok(())
    }

    /// Puts the references that [`State::look_at_pages`] took. Returns whether a page was uncharged: the
    /// caller then settles.
    fn take_back_pins(&mut self, job: &Job<'_>) -> bool {
        let is_new = |index: usize| {
            let mut new = job.new.iter();
            new.any(|new| (new.first..new.first.saturating_add(new.count)).contains(&index))
        };

        let mut uncharged = false;

        for index in (0..job.known).filter(|index| !is_new(*index)) {
            if let Some(iova) = job.iova(index) {
                // It may be the last reference by now.
                uncharged |= self.unpin(page_of(iova).start()).is_some();
            }
        }
        uncharged
    }

    /// Unpins a page once. Returns the account if the page was uncharged.
    fn unpin(&mut self, page: Iova) -> Option<Arc<Locked>> {
        let pin = self.emulated.get_mut(page)?;

        pin.count = pin.count.saturating_sub(1);
        if pin.count != 0 {
            return None;
        }
        let pin = self.emulated.remove(page)?;
        let locked = &self.mappings.at(page).filter(|_| pin.charged)?.locked;
        locked.release(1);
        Some(locked.clone())
    }

    /// Unpins the part of `range` in its first mapping. Returns the last address of the part, and the
    /// account to settle.
    fn unpin_in_first_mapping(&mut self, range: IovaRange) -> Option<(Iova, Option<Arc<Locked>>)> {
        let mapping = self.mappings.at(range.start())?.range;
        let part = mapping.intersect(range)?;
        let mut left = Some(part);
        let mut settle = None;

        while let Some(todo) = left {
            let page = page_of(todo.start());
            settle = self.unpin(page.start()).or(settle);
            left = part.behind(page.last());
        }
        Some((part.last(), settle))
    }
}
