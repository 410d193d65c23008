// SPDX-License-Identifier: GPL-2.0

//! Dirty tracking: which pages devices wrote.
//!
//! If the IOMMUs of all domains have dirty bits, these say what devices write. A leaf has one dirty bit,
//! so leaves are small while tracking is on. If one IOMMU has none, all that is mapped counts as
//! written, as in type1.
//!
//! Only page tables have dirty bits. Before the lock is released, bits that were cleared are reported,
//! or set again: if userspace's memory is not present, the call faults it in without the lock, and
//! starts again.

use kernel::prelude::*;

use super::{
    bitmap::Piece,
    is_complete,
    mapping::Mapping,
    tracking::Tracking,
    written::Written,
    Container,
    Crossing,
    State, //
};
use crate::{
    iommu::Reading,
    pgtable::{
        IovaRange,
        PageSizes, //
    },
    rmp::Domain,
    sys::sched::{
        cond_resched,
        cond_resched_killable, //
    }, //
};

/// Maximum number of pages of a mapping, as in type1: no bitmap has more bits.
const MOST_PAGES: u64 = 0x7fff_ffff;

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
    /// Starts or stops dirty tracking. Does nothing if that is done already.
    ///
    /// The start fails with `EINVAL` if a mapping is too large, and as [`State::set_policy`]. The stop
    /// fails only with `EINTR`: leaves that cannot be merged stay small.
    pub(crate) fn track(&self, on: bool) -> Result {
        let mut state = self.lock()?;

        match on {
            true => state.start_tracking(),
            false => {
                state.stop_tracking();
                Ok(())
            }
        }
    }

    /// Reports which pages of `range` were written since the last report, or since tracking started.
    ///
    /// Fails with `EINVAL` if tracking is off, or if a mapping crosses an end of the range and the
    /// container does not split mappings; `EFAULT`; `ENOMEM`; `EINTR`.
    pub(crate) fn read_dirty(&self, range: IovaRange, answer: &mut impl Answer) -> Result {
        let mut piece = Piece::new(range)?;
        let mut left = Some(range);

        while let Some(todo) = left {
            let mut state = self.lock()?;
            state.check_tracking(range, self.kind.crossing())?;
            let part = piece.begin(range, todo);
            state.collect(part, Reading::Take, &mut piece);
            match answer.put(&piece) {
                Ok(()) => {
                    state.told(part);
                    left = todo.behind(part.last());
                }
                Err(missing) => {
                    state.put_back(&piece);
                    drop(state);
                    answer.fetch(missing)?;
                }
            }
            cond_resched_killable()?;
        }
        Ok(())
    }

    /// Unmaps as [`Container::unmap`], and reports which pages were written until then. All or nothing.
    ///
    /// Fails as that, and as [`Container::read_dirty`].
    pub(crate) fn unmap_dirty(&self, range: IovaRange, answer: &mut impl Answer) -> Result<u64> {
        let crossing = self.kind.crossing();
        let mut piece = Piece::new(range)?;

        loop {
            let check = |state: &State| state.check_tracking(range, crossing);
            let (done, removed) = self.when_unpinned(range, check, |state| {
                let done = state.unmap_dirty(range, crossing, &mut piece, answer)?;
                Ok((done, state.take_removed()))
            })?;
            drop(removed);
            match done {
                Ok(bytes) => return Ok(bytes),
                Err(missing) => answer.fetch(missing)?,
            }
            cond_resched_killable()?;
        }
    }
}

impl State {
    /// Sets which sizes leaves may have while tracking is on. With `apply`, converts what is mapped.
    ///
    /// Fails as [`State::set_policy`].
    pub(crate) fn set_tracking_sizes(&mut self, sizes: PageSizes, apply: bool) -> Result {
        let good = sizes == PageSizes::ALL
            || self.supported().contains(sizes) && sizes.contains(PageSizes::ONLY_4K);
        if !good {
            return Err(EINVAL);
        }
        let old = core::mem::replace(&mut self.tracking_sizes, sizes);
        let result = self.in_force(self.chosen_policy()).and_then(|policy| {
            if apply && self.tracking.as_ref().is_some_and(|now| now.small) {
                self.convert_all(&policy)?;
            }
            self.policy = policy;
            Ok(())
        });

        if result.is_err() {
            self.tracking_sizes = old;
        }
        result
    }

    /// Whether dirty bits say which pages were written.
    fn is_exact(&self) -> bool {
        !self.domains.is_empty() && self.domains.iter().all(|domain| domain.can_track())
    }

    fn start_tracking(&mut self) -> Result {
        if self.tracking.is_some() {
            return Ok(());
        }
        let mut mappings = self.mappings.overlapping(IovaRange::ALL);
        if mappings.any(|mapping| is_too_large(mapping.range)) {
            return Err(EINVAL);
        }
        drop(mappings);
        let chosen = self.policy.with_rule(self.policy.rule())?;
        let small = self.is_exact();

        if small {
            // Split before the hardware sets dirty bits: new leaves are clean then.
            self.make_small()?;
        }
        let result = self.start_domains();
        self.tracking = Some(Tracking { chosen, small });
        self.emulated.write_pinned(IovaRange::ALL);
        if result.is_err() {
            self.stop_tracking();
        }
        result
    }

    /// Checks a new mapping. Fails with `EINVAL` if tracking is on and the mapping is too large for it.
    pub(super) fn check_trackable(&self, range: IovaRange) -> Result {
        if self.tracking.is_some() && is_too_large(range) {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Puts the policy in force that holds while tracking is on.
    fn make_small(&mut self) -> Result {
        let policy = self.policy.limited(self.tracking_sizes)?;
        let result = self.split_all(&policy);

        match result {
            Ok(()) => self.policy = policy,
            // What is small already may stay so.
            Err(_) => drop(self.restore_sizes()),
        }
        result
    }

    /// Gives all that is mapped the leaves of the policy in force.
    fn restore_sizes(&mut self) -> Result {
        let policy = self.policy.with_rule(self.policy.rule())?;

        self.convert_all(&policy)
    }

    /// Switches dirty tracking on in all domains that can. Clears the dirty bits that are set.
    fn start_domains(&mut self) -> Result {
        for domain in self.domains.iter_mut() {
            domain.track(true)?;
        }
        for domain in self.domains.iter().filter(|domain| domain.is_tracking()) {
            let mappings = self.mappings.overlapping(IovaRange::ALL);

            domain.flushed(|gather| {
                for mapped in mappings.filter_map(Mapping::mapped) {
                    domain.dirty(mapped, Reading::Take, gather, |_| {});
                }
            });
        }
        Ok(())
    }

    fn stop_tracking(&mut self) {
        let Some(tracking) = self.tracking.take() else {
            return;
        };

        self.emulated.written = Written::new();
        for domain in self.domains.iter_mut() {
            // It does not fail if the start did not (`amd/iommu.c: amd_iommu_set_dirty_tracking`).
            kernel::warn_on!(domain.track(false).is_err());
        }
        if !tracking.small {
            return;
        }
        self.policy = tracking.chosen;
        // Without memory, or after a fatal signal: leaves stay small, which the policy allows.
        if self.restore_sizes().is_err() {
            pr_warn!("not all leaves are as large again as they were before dirty tracking\n");
        }
        self.keep_reserve();
    }

    /// Prepares `domain`, which is new and empty, for being one of the container's.
    pub(super) fn track_in(&self, domain: &mut Domain) -> Result {
        match self.tracking {
            Some(_) => domain.track(true),
            None => Ok(()),
        }
    }

    /// Keeps the dirty bits of `domain`, which was removed: another domain gets them. `was_exact` is
    /// [`State::tracks_exactly`] before that.
    pub(super) fn inherit_dirty(&mut self, domain: &Domain, was_exact: bool) {
        if self.tracking.is_none() || !self.is_exact() {
            return;
        }
        let Some(heir) = self.domains.first() else {
            return;
        };
        for mapping in self.mappings.overlapping(IovaRange::ALL) {
            let Some(mapped) = mapping.mapped() else {
                continue;
            };
            if was_exact {
                each_note(domain, mapped, Reading::Peek, |part| {
                    heir.note_written(part)
                });
            } else {
                // It had no dirty bits: devices may have written anything.
                heir.note_written(mapped);
            }
        }
        self.shrink_leaves();
    }

    /// A domain has come or gone: if it is known now of each page if it was written, leaves are to be
    /// small. With larger ones more counts as written than was.
    pub(super) fn shrink_leaves(&mut self) {
        let is_large = |tracking: &Tracking| !tracking.small;

        // If this fails, leaves stay large: too much counts as written, never too little.
        if self.is_exact()
            && self.tracking.as_ref().is_some_and(is_large)
            && self.make_small().is_ok()
        {
            if let Some(tracking) = &mut self.tracking {
                tracking.small = true;
            }
        }
    }

    /// Whether tracking is on, and by dirty bits.
    pub(super) fn tracks_exactly(&self) -> bool {
        self.tracking.is_some() && self.is_exact()
    }

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
        let made = self.mappings.overlapping(range);

        made.filter(|mapping| is_complete(mapping))
            .filter_map(move |mapping| {
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

    /// Sets the dirty bits again that `piece` has. The next report has them.
    fn put_back(&self, piece: &Piece) {
        if let Some(domain) = self.domains.first().filter(|_| self.is_exact()) {
            piece.dirty().for_each(|dirty| domain.note_written(dirty));
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
        if self.mappings.crosses_end_of(range) {
            self.split_boundaries(range)?;
        }
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

/// Whether a mapping of `range` has no bitmap.
fn is_too_large(range: IovaRange) -> bool {
    range.pages() > MOST_PAGES
}

/// Lost leaves in `range`: the hook unmapped them, and whether they were dirty is not known.
pub(super) fn lost_in(domain: &Domain, range: IovaRange) -> impl Iterator<Item = IovaRange> + '_ {
    let watches = domain.watches();
    let followed = watches.overlapping(range).map(|watch| watch.range());

    followed
        .filter(|followed| watches.lost_in(*followed))
        .filter_map(move |lost| lost.intersect(range))
}

/// Calls `each` with the dirty parts of `range`, and flushes.
pub(super) fn each_note(
    domain: &Domain,
    range: IovaRange,
    reading: Reading,
    each: impl FnMut(IovaRange),
) {
    domain.flushed(|gather| domain.dirty(range, reading, gather, each));
}
