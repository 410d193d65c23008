// SPDX-License-Identifier: GPL-2.0

//! The state of pages: those that are shared are pinned and mapped, those that are private are not.
//!
//! Which pages are shared is said by the page table alone: they are those that are mapped.

use kernel::prelude::*;

use crate::{
    container::State,
    domain::{
        first_piece,
        give_way,
        rest,
        Domain,
        PIECE, //
    },
    mapping::Mapping,
    pgtable::{
        IovaRange,
        PageSize, //
    },
    quick::Quick, //
};

/// What becomes of pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageState {
    /// Devices can not use them.
    Private,
    /// Devices use them.
    Shared,
}

/// One change.
#[derive(Clone, Copy)]
pub(crate) struct StateChange {
    pub(crate) range: IovaRange,
    pub(crate) to: PageState,
}

impl State {
    /// Makes the changes, one after the other. Returns how many are done, and why the next one is
    /// not.
    pub(crate) fn set_state(&mut self, changes: &[StateChange]) -> (usize, Result) {
        let mut done = 0usize;
        let mut rest = changes;

        while let [first, ..] = rest {
            let Some(mapping) = self.stateful_at(first.range) else {
                return (done, Err(ENOENT));
            };
            // Those of one mapping share its account: it is charged once, and settled once.
            let here = |change: &&StateChange| mapping.range.covers(change.range);
            let count = rest.iter().take_while(here).count();
            let (now, later) = rest.split_at(count);

            if mapping.locked.is_of_current() {
                mapping.locked.reserve(pages_to_share(now));
            }
            let (made, result) = self.change(&mapping, now);
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
    fn change(&mut self, mapping: &Mapping, changes: &[StateChange]) -> (usize, Result) {
        let mut quick = Quick::default();
        let mut before = PageState::Private;
        let mut done = 0usize;

        for group in groups(changes) {
            // What is taken is flushed before anything else may come in its place.
            if group.change.to != before {
                self.flush_quick(mapping, &mut quick);
                before = group.change.to;
            }
            if self.change_quickly(mapping, group.change, &mut quick) {
                done = done.saturating_add(group.parts.len());
                continue;
            }
            // The first may make the table that the others go to.
            let mut rest = group.parts;
            while let [first, others @ ..] = rest {
                let result = give_way().and_then(|()| self.change_one(mapping, *first, &mut quick));
                if result.is_err() {
                    self.flush_quick(mapping, &mut quick);
                    return (done, result);
                }
                done = done.saturating_add(1);
                let all = rest.len() == group.parts.len();
                rest = others;
                let other = groups(others).next().filter(|_| all);
                if other.is_some_and(|other| self.change_quickly(mapping, other.change, &mut quick))
                {
                    done = done.saturating_add(others.len());
                    break;
                }
            }
        }
        self.flush_quick(mapping, &mut quick);
        (done, Ok(()))
    }

    fn change_one(&mut self, mapping: &Mapping, change: StateChange, quick: &mut Quick) -> Result {
        if self.change_quickly(mapping, change, quick) {
            return Ok(());
        }
        self.flush_quick(mapping, quick);
        match change.to {
            PageState::Private => self.make_private(mapping, change.range),
            PageState::Shared => self.make_shared(mapping, change.range),
        }
    }

    fn change_quickly(
        &mut self,
        mapping: &Mapping,
        change: StateChange,
        quick: &mut Quick,
    ) -> bool {
        match change.to {
            PageState::Private => self.take_quickly(mapping, change.range, quick),
            PageState::Shared => self.share_quickly(mapping, change.range, quick),
        }
    }

    /// The stateful mapping that holds `range`.
    fn stateful_at(&self, range: IovaRange) -> Option<Mapping> {
        let mapping = self.mappings.at(range.start())?;

        (mapping.stateful && mapping.range.covers(range)).then(|| mapping.part(mapping.range))
    }

    /// Has devices use no page of `range` any more.
    ///
    /// Fails as [`State::cut_out`], and nothing has changed then.
    fn make_private(&mut self, mapping: &Mapping, range: IovaRange) -> Result {
        self.cut_out(range)?;
        self.clear(mapping, range);
        Ok(())
    }

    /// Has devices use all pages of `range`.
    ///
    /// Fails with `EPERM` if the memory is another process's, and as [`State::populate`]; nothing has
    /// changed then.
    fn make_shared(&mut self, mapping: &Mapping, range: IovaRange) -> Result {
        if !mapping.locked.is_of_current() {
            return Err(EPERM);
        }
        let mut holes = self.private_in(range)?;
        if self.is_lost_in(range) {
            // It may have been gone for one that is private.
            self.repair()?;
            holes = self.private_in(range)?;
            if self.is_lost_in(range) {
                return Err(ENOMEM);
            }
        }

        for (index, hole) in holes.iter().enumerate() {
            if let Err(error) = self.populate(mapping, *hole) {
                for before in holes.iter().take(index) {
                    self.clear(mapping, *before);
                }
                return Err(error);
            }
        }
        for hole in &holes {
            self.rejoin(mapping.range, hole.start());
            if hole.last().align_down(PageSize::SIZE_2M) > hole.start() {
                self.rejoin(mapping.range, hole.last());
            }
        }
        Ok(())
    }

    /// Whether the hook had to unmap a leaf in `range`, which is not back yet.
    fn is_lost_in(&self, range: IovaRange) -> bool {
        let mut domains = self.domains.iter();

        domains.any(|domain| domain.watches().lost_in(range))
    }

    /// The pages of `range`, of a stateful mapping, that are private, as ranges.
    pub(crate) fn private_in(&self, range: IovaRange) -> Result<KVVec<IovaRange>> {
        let mut found = KVVec::new();
        let mut free = Some(range);
        let mut left = Some(range);
        let source = self.source().and_then(|index| self.domains.get(index));

        while let (Some(todo), Some(table)) = (
            left.zip(source)
                .and_then(|(left, source)| source.skip_holes(left)),
            source.and_then(Domain::table),
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
            give_way()?;
        }
        if let Some(rest) = free {
            found.push(rest, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(found)
    }

    /// A mapping has gone, if it is stateful with tables that pages left behind.
    pub(crate) fn forget_state(&mut self, mapping: &Mapping) {
        if !mapping.stateful {
            return;
        }
        self.stateful = self.stateful.saturating_sub(mapping.range.pages());
        for domain in &self.domains {
            let mut left = Some(mapping.range);
            while let (Some(todo), Some(table)) = (left, domain.table()) {
                left = table.drop_empty(todo);
                rest();
            }
        }
    }
}

/// Changes that are one: alike, one behind the other, within a block of 2M.
struct Group<'c> {
    change: StateChange,
    parts: &'c [StateChange],
}

/// Changes as groups, in their order.
fn groups(changes: &[StateChange]) -> impl Iterator<Item = Group<'_>> {
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
        Some(Group { change, parts })
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
