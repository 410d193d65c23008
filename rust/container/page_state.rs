// SPDX-License-Identifier: GPL-2.0

//! Page states: shared pages are pinned and mapped, private pages are not.
//!
//! The page table is the only record: a page is shared if it is mapped.

use kernel::prelude::*;

use super::{
    change::{
        groups,
        pages_to_share,
        quick_parts,
        PageState,
        StateChange, //
    },
    claims::Purpose,
    mapping::Mapping,
    page_state_quick::Quick,
    Container,
    Pins,
    State, //
};
use crate::{
    iommu::PIECE,
    mm::{
        EarlyPins,
        Plain, //
    },
    pgtable::{
        first_piece,
        IovaRange,
        PageSize,
        PageSizes, //
    },
    sys::{
        num::to_u64,
        sched::cond_resched_killable, //
    }, //
};

impl Container {
    /// Makes the changes in order. Returns how many were made, and the error of the next one.
    ///
    /// Sleeps. Fails with `ENOENT` if a change is not within one stateful mapping, `EPERM` if the
    /// memory belongs to another process, `EINTR` on a fatal signal, and as
    /// [`Container::populate`].
    pub(crate) fn set_state(&self, changes: &[StateChange], pins: &mut Pins) -> (usize, Result) {
        let mut done = 0usize;
        let mut rest = changes;

        while let [first, ..] = rest {
            let found = self
                .lock()
                .and_then(|state| state.stateful_at(first.range).ok_or(ENOENT));
            let mapping = match found {
                Ok(mapping) => mapping,
                Err(error) => return (done, Err(error)),
            };
            // Changes of one mapping share an account: charge once, settle once.
            let here = |change: &&StateChange| mapping.range.covers(change.range);
            let count = rest.iter().take_while(here).count();
            let (now, later) = rest.split_at(count);

            if mapping.locked.is_of_current() {
                mapping.locked.reserve(pages_to_share(now));
            }
            let (made, result) = self.change(&mapping, now, pins);
            mapping.locked.settle();
            done = done.saturating_add(made);
            if result.is_err() {
                return (done, result);
            }
            rest = later;
        }
        (done, Ok(()))
    }

    /// As [`Self::set_state`], for changes of one mapping.
    fn change(
        &self,
        mapping: &Mapping,
        changes: &[StateChange],
        pins: &mut Pins,
    ) -> (usize, Result) {
        let mut plain = Plain::default();
        let mut room = EarlyPins::MOST;
        let mut done = 0usize;

        while let Some(rest @ [_, ..]) = changes.get(done..) {
            // Make as many as possible quickly, then one slowly.
            let mut early = EarlyPins::new(&mut pins.pages, &mapping.locked, mapping.access.write);
            let (made, result) = self.change_many(mapping, rest, &mut early, &mut plain, &mut room);

            drop(early);
            done = done.saturating_add(made);
            if result.is_err() {
                return (done, result);
            }
            let Some(change) = rest.get(made) else {
                break;
            };
            let result =
                cond_resched_killable().and_then(|()| self.change_slowly(mapping, *change, pins));
            if result.is_err() {
                return (done, result);
            }
            done = done.saturating_add(1);
        }
        (done, Ok(()))
    }

    /// Makes changes, in order, up to the first one that cannot be made quickly. Returns their number.
    ///
    /// Takes the lock to find out which pages to pin, and again after pinning, to map them and to find
    /// the next ones.
    fn change_many(
        &self,
        mapping: &Mapping,
        changes: &[StateChange],
        early: &mut EarlyPins<'_>,
        plain: &mut Plain,
        room: &mut usize,
    ) -> (usize, Result) {
        let mut done = 0usize;

        loop {
            let rest = changes.get(done..).unwrap_or(&[]);
            let pinned = !early.is_empty();
            let (made, planned) = match self.lock() {
                Ok(mut state) => state.change_quickly(mapping, rest, early, *room),
                Err(error) => return (done, Err(error)),
            };
            done = done.saturating_add(made);
            // This bounds the pages that are pinned in vain: twice those that are not.
            *room = match (pinned, early.is_empty()) {
                (false, _) => *room,
                (true, true) => room.saturating_mul(2).min(EarlyPins::MOST),
                (true, false) => (*room / 2).max(1),
            };
            early.give_back();
            let next = changes.get(done..).and_then(|rest| rest.get(..planned));
            let Some(next @ [_, ..]) = next.filter(|_| made != 0 || !pinned) else {
                return (done, Ok(()));
            };
            early.charge(pages_to_share(next));
            for group in groups(next) {
                let range = group.change.range;
                if !early.pin(mapping.memory_at(range.start()), range.pages(), plain) {
                    break;
                }
            }
            if early.is_empty() {
                return (done, Ok(()));
            }
            if let Err(error) = cond_resched_killable() {
                return (done, Err(error));
            }
        }
    }

    /// Makes one change. Waits for other calls in its range.
    fn change_slowly(&self, mapping: &Mapping, change: StateChange, pins: &mut Pins) -> Result {
        let range = change.range;

        match change.to {
            PageState::Private => self.when_unpinned(
                range,
                |state| state.check(mapping, range),
                |state| {
                    state.check(mapping, range)?;
                    state.make_private(mapping, range)
                },
            ),
            PageState::Shared => self.share_slowly(mapping, range, pins),
        }
    }

    fn share_slowly(&self, mapping: &Mapping, range: IovaRange, pins: &mut Pins) -> Result {
        let (mut state, claim) = self.claim(range, Purpose::Work)?;
        let mut result = state.check(mapping, range);
        // Its memory may have moved.
        let now = state.same(mapping, range).map(Mapping::copy);

        if let Some(mapping) = now.filter(|_| result.is_ok()) {
            let holes = state.holes_to_share(&mapping, range);
            // Pinning may sleep: drop the lock.
            drop(state);
            result = holes.and_then(|holes| self.share(&mapping, &holes, pins));
            state = self.state.lock();
        }
        state.claims.end(claim);
        result
    }

    /// Makes the pages of `holes` shared. They are private, and claimed. All or nothing. Fails as
    /// [`Container::populate`].
    fn share(&self, mapping: &Mapping, holes: &[IovaRange], pins: &mut Pins) -> Result {
        for (index, hole) in holes.iter().enumerate() {
            if let Err(error) = self.populate(mapping, *hole, pins) {
                let mut state = self.state.lock();
                for before in holes.iter().take(index) {
                    if state.check(mapping, *before).is_ok() {
                        state.clear(mapping, *before);
                    }
                }
                return Err(error);
            }
        }
        let mut state = self.state.lock();
        for hole in holes {
            // The mapping may be smaller now.
            let Some(bounds) = state.same(mapping, *hole).map(|now| now.range) else {
                continue;
            };
            state.try_merge_block(bounds, hole.start());
            if hole.last().align_down(PageSize::SIZE_2M) > hole.start() {
                state.try_merge_block(bounds, hole.last());
            }
        }
        Ok(())
    }
}

impl State {
    /// Makes changes of one mapping, in order, up to the first one that cannot be made quickly, or
    /// that shares pages that are not pinned.
    ///
    /// Returns their number; and the number of changes after them that can be made quickly after
    /// pinning, which have at most `room` pages, or are one.
    fn change_quickly(
        &mut self,
        mapping: &Mapping,
        changes: &[StateChange],
        early: &mut EarlyPins<'_>,
        room: usize,
    ) -> (usize, usize) {
        // Pages may be pinned already: not those of memory that has moved.
        let stays =
            |now: &&Mapping, at| !now.vaddr_invalid && now.memory_at(at) == mapping.memory_at(at);
        let Some(mapping) = changes.first().and_then(|first| {
            let now = self.same(mapping, first.range);
            Some(now.filter(|now| stays(now, first.range.start()))?.copy())
        }) else {
            return (0, 0);
        };
        let mapping = &mapping;
        let mut quick = Quick::new(early);
        let mut before = PageState::Private;
        let mut done = 0usize;

        for group in groups(changes) {
            // Flush what was unmapped before anything is mapped in its place.
            if group.change.to != before {
                self.flush_quick(mapping, &mut quick);
                before = group.change.to;
            }
            let made = quick_parts(&group, |change| {
                self.change_group(mapping, change, &mut quick)
            });
            done = done.saturating_add(made);
            if made < group.parts.len() {
                break;
            }
        }
        self.flush_quick(mapping, &mut quick);
        let rest = changes.get(done..).unwrap_or(&[]);
        (done, self.plan(mapping, rest, &mut quick, room))
    }

    /// Returns how many of `changes`, in order, can be made quickly after pinning.
    fn plan(
        &self,
        mapping: &Mapping,
        changes: &[StateChange],
        quick: &mut Quick<'_, '_>,
        room: usize,
    ) -> usize {
        let mut left = to_u64(room);
        let mut planned = 0usize;

        for group in groups(changes) {
            let made = quick_parts(&group, |change| {
                let pages = change.range.pages();
                let fits = pages <= left || left == to_u64(room);
                let may = fits
                    && change.to == PageState::Shared
                    && self.may_share(mapping, change.range, quick);
                if may {
                    left = left.saturating_sub(pages);
                }
                may
            });
            planned = planned.saturating_add(made);
            if made < group.parts.len() {
                break;
            }
        }
        planned
    }

    fn change_group(
        &mut self,
        mapping: &Mapping,
        change: StateChange,
        quick: &mut Quick<'_, '_>,
    ) -> bool {
        // Another call works there, or waits to unmap; or devices have to be told.
        if !mapping.range.covers(change.range)
            || self.claims.any_in(change.range)
            || self.emulated.first_in(change.range).is_some()
        {
            return false;
        }
        match change.to {
            PageState::Private => self.take_quickly(mapping, change.range, quick),
            PageState::Shared => self.share_quickly(mapping, change.range, quick),
        }
    }

    /// The stateful mapping that contains `range`.
    fn stateful_at(&self, range: IovaRange) -> Option<Mapping> {
        let mapping = self.mappings.at(range.start())?;

        (mapping.stateful && mapping.range.covers(range)).then(|| mapping.copy())
    }

    /// Makes all pages of `range` private. Fails as [`State::split_boundaries`]; nothing has
    /// changed then.
    fn make_private(&mut self, mapping: &Mapping, range: IovaRange) -> Result {
        self.split_boundaries(range, PageSizes::ALL)?;
        self.clear(mapping, range);
        Ok(())
    }

    /// The parts of `range` that are private.
    ///
    /// Fails with `EBUSY` if the address of the memory is invalid, `EPERM` if the memory belongs to
    /// another process, `ENOMEM`, and `EINTR` on a fatal signal.
    fn holes_to_share(&mut self, mapping: &Mapping, range: IovaRange) -> Result<KVVec<IovaRange>> {
        if mapping.vaddr_invalid {
            return Err(EBUSY);
        }
        if !mapping.locked.is_of_current() {
            return Err(EPERM);
        }
        let holes = self.private_in(range)?;
        if !self.is_lost_in(range) {
            return Ok(holes);
        }
        // A lost leaf looks like private pages: repair, and read again.
        self.repair()?;
        let holes = self.private_in(range)?;
        if self.is_lost_in(range) {
            return Err(ENOMEM);
        }
        Ok(holes)
    }

    /// Whether a leaf in `range` is lost.
    fn is_lost_in(&self, range: IovaRange) -> bool {
        let mut domains = self.domains.iter();

        domains.any(|domain| domain.watches().lost_in(range))
    }

    /// The private parts of `range`, of a stateful mapping. Fails with `ENOMEM`, and `EINTR` on a
    /// fatal signal.
    fn private_in(&self, range: IovaRange) -> Result<KVVec<IovaRange>> {
        let mut found = KVVec::new();
        let mut free = Some(range);
        let mut left = Some(range);
        let source = self.source().and_then(|index| self.domains.get(index));

        while let (Some(todo), Some(table)) = (
            left.zip(source)
                .and_then(|(left, source)| source.skip_holes(left)),
            source.and_then(|source| source.table()),
        ) {
            let piece = first_piece(todo, PIECE);
            for extent in table.extents_from(piece, todo) {
                let before = extent.range.start().before();
                let gap = free
                    .zip(before)
                    .and_then(|(free, last)| IovaRange::new(free.start(), last));
                if let Some(gap) = gap {
                    found.push(gap, GFP_KERNEL_ACCOUNT)?;
                }
                free = range.behind(extent.range.last());
            }
            left = todo.behind(piece.last());
            cond_resched_killable()?;
        }
        if let Some(rest) = free {
            found.push(rest, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(found)
    }
}
