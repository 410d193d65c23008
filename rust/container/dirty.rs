// SPDX-License-Identifier: GPL-2.0

//! Dirty tracking: which pages devices wrote.
//!
//! If the IOMMUs of all domains have dirty bits, these say what devices write. A leaf has one dirty bit,
//! so leaves are small while tracking is on. If one IOMMU has none, all that is mapped counts as
//! written, as in type1.
//!
//! Only page tables have dirty bits. A report is made piece by piece. The lock is held while the bits of a
//! piece are cleared and copied to userspace. If userspace's memory is not present, the bits are set again;
//! the call faults the memory in without the lock, and repeats the piece.

use kernel::prelude::*;

use super::{
    bitmap::Piece,
    is_complete,
    joined_entry::Grain,
    Container,
    Crossing,
    State, //
};
use crate::{
    iommu::Reading,
    pgtable::IovaRange,
    rmp::Domain,
    sys::sched::{
        cond_resched,
        cond_resched_killable, //
    }, //
};

/// Memory of the process that is not present, or not writable.
pub(crate) struct Missing {
    /// Its address.
    pub(crate) address: usize,
    /// Its size.
    pub(crate) bytes: usize,
}

/// Where a bitmap goes.
pub(crate) trait Answer {
    /// Writes the piece. Does not fault memory in.
    fn put(&mut self, piece: &Piece) -> core::result::Result<(), Missing>;

    /// Faults the memory in. Fails with `EFAULT` if it is not writable.
    fn fetch(&mut self, missing: Missing) -> Result;
}

impl Container {
    /// Reports which pages of `range` were written since the last report, or since tracking started.
    ///
    /// Fails with `EINVAL` if tracking is off, or if a mapping crosses an end of the range and the
    /// container does not split mappings; `EFAULT`; `ENOMEM`; `EINTR`. The next report then has all that
    /// this one was to have.
    pub(crate) fn read_dirty(&self, range: IovaRange, answer: &mut impl Answer) -> Result {
        let mut piece = Piece::new(range)?;
        let mut left = Some(range);

        while let Some(todo) = left {
            match self.read_piece(range, todo, &mut piece, answer) {
                Ok(rest) => left = rest,
                Err(error) => {
                    let told = todo.start().before();
                    let told = told.and_then(|last| IovaRange::new(range.start(), last));
                    // Userspace ignores the pieces before this one, too.
                    told.into_iter()
                        .for_each(|told| self.state.lock().note_all(told));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Reports the piece of `range` at the start of `todo`. Returns what is left.
    fn read_piece(
        &self,
        range: IovaRange,
        todo: IovaRange,
        piece: &mut Piece,
        answer: &mut impl Answer,
    ) -> Result<Option<IovaRange>> {
        loop {
            cond_resched_killable()?;
            let mut state = self.lock()?;
            state.check_tracking(range, self.kind.crossing())?;
            let part = piece.begin(range, todo);
            state.collect(part, Reading::Take, piece);
            match answer.put(piece) {
                Ok(()) => {
                    state.told(part);
                    return Ok(todo.behind(part.last()));
                }
                Err(missing) => {
                    state.put_back(piece);
                    drop(state);
                    answer.fetch(missing)?;
                }
            }
        }
    }

    /// Unmaps as [`Container::unmap`], and reports which pages were written until then. All or nothing.
    ///
    /// Fails as that, and as [`Container::read_dirty`].
    pub(crate) fn unmap_dirty(&self, range: IovaRange, answer: &mut impl Answer) -> Result<u64> {
        let crossing = self.kind.crossing();
        let mut piece = Piece::new(range)?;

        loop {
            let check = |state: &State| state.check_tracking(range, crossing);
            let done = self.unmap_when_unpinned(range, check, |state| {
                state.unmap_dirty(range, crossing, &mut piece, answer)
            })?;
            match done {
                Ok(bytes) => return Ok(bytes),
                Err(missing) => answer.fetch(missing)?,
            }
            cond_resched_killable()?;
        }
    }
}

impl State {
    /// Fails with `EINVAL` if tracking is off, or if a mapping crosses an end of `range` and must not be
    /// split.
    fn check_tracking(&self, range: IovaRange, crossing: Crossing) -> Result {
        let splits = matches!(crossing, Crossing::Split);

        if self.tracking.is_none() || !splits && self.mappings.crosses_end_of(range) {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// The parts of mappings in `range`, and for each whether all of it is mapped.
    fn parts_in(&self, range: IovaRange) -> impl Iterator<Item = (IovaRange, bool)> + '_ {
        // As far as pages are mapped: a word of the bitmap in which nothing is mapped is not written.
        let made = self.mappings.parts(range, Grain::Runs);

        made.filter(is_complete).filter_map(move |mapping| {
            cond_resched();
            Some((mapping.range.intersect(range)?, !mapping.stateful))
        })
    }

    /// Adds to `piece` what was written in `range`. What emulated devices wrote stays until it is
    /// [`told`](State::told), whatever the reading.
    fn collect(&self, range: IovaRange, reading: Reading, piece: &mut Piece) {
        let exact = self.is_exact() || self.domains.is_empty();

        for (part, whole) in self.parts_in(range) {
            piece.add_mapping(part);
            if exact {
                continue;
            }
            if whole {
                piece.add_dirty(part);
                continue;
            }
            let source = self.source().and_then(|index| self.domains.get(index));
            let table = source.and_then(|domain| domain.table());
            for extent in table.iter().flat_map(|table| table.view().extents(part)) {
                piece.add_dirty(extent.range);
            }
        }
        for domain in self.domains.iter().filter(|_| exact) {
            domain.flushed(|gather| {
                for (part, _) in self.parts_in(range) {
                    domain.dirty(part, reading, gather, |dirty| piece.add_dirty(dirty));
                }
            });
            lost_in(domain, range).for_each(|lost| piece.add_dirty(lost));
        }
        let written = &self.emulated.written;
        for (part, _) in self.parts_in(range) {
            written.each(part, |dirty| piece.add_dirty(dirty));
        }
    }

    /// Sets the dirty bits of `piece` again, for the next report.
    fn put_back(&self, piece: &Piece) {
        if let Some(domain) = self.domains.first().filter(|_| self.is_exact()) {
            piece.dirty().for_each(|dirty| domain.note_written(dirty));
        }
    }

    /// All pages of `range` count as written: a report was lost, and its bits are not known any more.
    fn note_all(&mut self, range: IovaRange) {
        let Self {
            domains,
            mappings,
            emulated,
            tracking: Some(_),
            ..
        } = self
        else {
            return;
        };

        for mapping in mappings.overlapping(range) {
            let Some(part) = mapping.range.intersect(range) else {
                continue;
            };
            if let Some(domain) = domains.first() {
                domain.note_written(part);
            }
            // A domain that came meanwhile may go again, with its dirty bits.
            if domains.is_empty() || emulated.any() {
                emulated.written.add(part);
            }
        }
    }

    /// Reports what was written in `range`. Dirty bits stay set.
    fn tell(
        &self,
        range: IovaRange,
        piece: &mut Piece,
        answer: &mut impl Answer,
    ) -> core::result::Result<(), Missing> {
        let mut left = Some(range);

        while let Some(todo) = left {
            let part = piece.begin(range, todo);
            self.collect(part, Reading::Peek, piece);
            answer.put(piece)?;
            left = todo.behind(part.last());
        }
        Ok(())
    }

    fn unmap_dirty(
        &mut self,
        range: IovaRange,
        crossing: Crossing,
        piece: &mut Piece,
        answer: &mut impl Answer,
    ) -> Result<core::result::Result<u64, Missing>> {
        self.check_tracking(range, crossing)?;
        // Finds most memory that is not present before anything changes.
        if let Err(missing) = self.tell(range, piece, answer) {
            return Ok(Err(missing));
        }
        if !self.is_exact() {
            return self.unmap(range, crossing).map(Ok);
        }
        self.split_for_unmap(range)?;
        // After this no device writes, and all dirty bits are set.
        self.allow_writes(range, false);
        let result = match self.tell(range, piece, answer) {
            Ok(()) => self.unmap(range, crossing).map(Ok),
            Err(missing) => Ok(Err(missing)),
        };

        if !matches!(result, Ok(Ok(_))) {
            self.allow_writes(range, true);
        }
        result
    }

    /// Removes the permission to write in `range`, or restores it where mappings have it.
    fn allow_writes(&self, range: IovaRange, allow: bool) {
        let writable = || {
            let mappings = self.mappings.overlapping(range);
            mappings
                .filter(|mapping| is_complete(mapping) && mapping.access.write)
                .filter_map(|mapping| mapping.range.intersect(range))
        };

        for domain in &self.domains {
            domain.flushed(|gather| {
                for part in writable() {
                    domain.allow_writes(part, allow, gather);
                }
            });
        }
    }
}

/// Lost leaves in `range`: the hook unmapped them, and whether they were dirty is not known.
pub(super) fn lost_in(domain: &Domain, range: IovaRange) -> impl Iterator<Item = IovaRange> + '_ {
    let watches = domain.watches();
    let followed = watches.overlapping(range).map(|watch| watch.range());

    followed
        .filter(|followed| watches.lost_in(*followed))
        .filter_map(move |lost| lost.intersect(range))
}
