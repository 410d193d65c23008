// SPDX-License-Identifier: GPL-2.0

//! The state of pages: those that are shared are pinned and mapped, those that are private are not.
//!
//! Which pages are shared is said by the page table alone: they are those that are mapped.

use kernel::prelude::*;

use super::{
    change::{
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
        Buffer,
        Plain, //
    },
    pgtable::{
        first_piece,
        IovaRange,
        PageSize, //
    },
    sys::sched::cond_resched_killable, //
};

impl Container {
    /// Makes the changes, one after the other. Returns how many are done, and why the next one is
    /// not.
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
            // Those of one mapping share its account: it is charged once, and settled once.
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

    /// The same within one mapping.
    fn change(
        &self,
        mapping: &Mapping,
        changes: &[StateChange],
        pins: &mut Pins,
    ) -> (usize, Result) {
        let mut plain = Plain::default();
        let mut done = 0usize;

        while let Some(rest @ [_, ..]) = changes.get(done..) {
            // Many of them at once; the first that does not go so, the long way.
            let made = match self.lock() {
                Ok(mut state) => state.change_quickly(mapping, rest, &mut pins.pages, &mut plain),
                Err(error) => return (done, Err(error)),
            };
            done = done.saturating_add(made);
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

    /// Makes a change by itself, once nobody else is at work in its range.
    fn change_slowly(&self, mapping: &Mapping, change: StateChange, pins: &mut Pins) -> Result {
        let range = change.range;
        let (mut state, claim) = self.claim(range, Purpose::Work)?;
        let mut result = state.check(mapping, range);

        if result.is_ok() && change.to == PageState::Private {
            result = state.make_private(mapping, range);
        } else if result.is_ok() {
            let holes = state.holes_to_share(mapping, range);
            // No lock is held where memory is waited for.
            drop(state);
            result = holes.and_then(|holes| self.share(mapping, &holes, pins));
            state = self.state.lock();
        }
        state.claims.end(claim);
        result
    }

    /// Has devices use all pages of `holes`, which are private and claimed.
    ///
    /// Fails as [`Container::populate`], and nothing has changed then.
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
            // It may be smaller by now, at its other end.
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
    /// Makes those changes, from the first on, of one mapping, that are quickly done: up to the first
    /// that is not. Returns how many.
    fn change_quickly(
        &mut self,
        mapping: &Mapping,
        changes: &[StateChange],
        pages: &mut Buffer,
        plain: &mut Plain,
    ) -> usize {
        let Some(mapping) = changes
            .first()
            .and_then(|first| Some(self.same(mapping, first.range)?.copy()))
        else {
            return 0;
        };
        let mapping = &mapping;
        let mut quick = Quick::new(pages, plain);
        let mut before = PageState::Private;
        let mut done = 0usize;

        for group in groups(changes) {
            // What is taken is flushed before anything else may come in its place.
            if group.change.to != before {
                self.flush_quick(mapping, &mut quick);
                before = group.change.to;
            }
            let mut quickly = |change: StateChange| {
                mapping.range.covers(change.range) && self.change_group(mapping, change, &mut quick)
            };
            if quickly(group.change) {
                done = done.saturating_add(group.parts.len());
                continue;
            }
            // One of them may be quick where all are not.
            let made = match group.parts {
                [_] => 0,
                parts => parts.iter().take_while(|part| quickly(**part)).count(),
            };
            done = done.saturating_add(made);
            if made < group.parts.len() {
                break;
            }
        }
        self.flush_quick(mapping, &mut quick);
        done
    }

    fn change_group(
        &mut self,
        mapping: &Mapping,
        change: StateChange,
        quick: &mut Quick<'_>,
    ) -> bool {
        // Others are at work there, or wait to be.
        if self.claims.any_in(change.range) {
            return false;
        }
        match change.to {
            PageState::Private => self.take_quickly(mapping, change.range, quick),
            PageState::Shared => self.share_quickly(mapping, change.range, quick),
        }
    }

    /// The stateful mapping that holds `range`.
    fn stateful_at(&self, range: IovaRange) -> Option<Mapping> {
        let mapping = self.mappings.at(range.start())?;

        (mapping.stateful && mapping.range.covers(range)).then(|| mapping.copy())
    }

    /// Has devices use no page of `range` any more.
    ///
    /// Fails as [`State::split_boundaries`], and nothing has changed then.
    fn make_private(&mut self, mapping: &Mapping, range: IovaRange) -> Result {
        self.split_boundaries(range)?;
        self.clear(mapping, range);
        Ok(())
    }

    /// What of `range` is to be shared yet.
    ///
    /// Fails with `EPERM` if the memory is another process's, with `ENOMEM`, and with `EINTR` if a fatal
    /// signal came.
    fn holes_to_share(&mut self, mapping: &Mapping, range: IovaRange) -> Result<KVVec<IovaRange>> {
        if !mapping.locked.is_of_current() {
            return Err(EPERM);
        }
        let holes = self.private_in(range)?;
        if !self.is_lost_in(range) {
            return Ok(holes);
        }
        // It may have been gone for one that is private.
        self.repair()?;
        let holes = self.private_in(range)?;
        if self.is_lost_in(range) {
            return Err(ENOMEM);
        }
        Ok(holes)
    }

    /// Whether the hook had to unmap a leaf in `range`, which is not back yet.
    fn is_lost_in(&self, range: IovaRange) -> bool {
        let mut domains = self.domains.iter();

        domains.any(|domain| domain.watches().lost_in(range))
    }

    /// The pages of `range`, of a stateful mapping, that are private, as ranges.
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

/// Changes that are one: alike, one behind the other, within a block of 2M.
struct ChangeGroup<'c> {
    change: StateChange,
    parts: &'c [StateChange],
}

/// Changes as groups, in their order.
fn groups(changes: &[StateChange]) -> impl Iterator<Item = ChangeGroup<'_>> {
    let mut rest = changes;

    core::iter::from_fn(move || {
        let (first, others) = rest.split_first()?;
        let block = IovaRange::block(first.range.start(), PageSize::SIZE_2M);
        let mut change = *first;
        let mut count = 1usize;

        for other in others {
            let follows = change.range.last().next() == Some(other.range.start());
            if !follows || other.to != change.to || !block.covers(other.range) {
                break;
            }
            change.range = change.range.hull(other.range);
            count = count.saturating_add(1);
        }
        let (parts, later) = rest.split_at(count);
        rest = later;
        Some(ChangeGroup { change, parts })
    })
}

/// How many pages are shared by these changes, if none is yet.
fn pages_to_share(changes: &[StateChange]) -> u64 {
    changes
        .iter()
        .filter(|change| change.to == PageState::Shared)
        .fold(0, |pages, change| {
            pages.saturating_add(change.range.pages())
        })
}
