// SPDX-License-Identifier: GPL-2.0

//! Unmap requests.

use kernel::prelude::*;

use super::{
    crossing::Crossing,
    is_complete,
    mapping::{
        Mapping,
        NodeReservation, //
    },
    Container,
    State, //
};
use crate::{
    pgtable::{
        IovaRange,
        PageSize,
        PageSizes, //
    },
    sys::testing::{
        step,
        Step, //
    }, //
};

/// Sizes of the leaves that remain of a split leaf of a joined mapping: below 2M only 4K, since its
/// neighbours follow, and 4K leaves are unmapped the quick way.
pub(super) const PIECE_SIZES: PageSizes =
    PageSizes::from_bits(!PageSize::SIZE_2M.mask()).union(PageSizes::ONLY_4K);

impl Container {
    /// Unmaps what is mapped in `range`, after other calls in the range have ended.
    ///
    /// Sleeps. Fails as [`State::unmap`] and [`Container::when_unpinned`].
    pub(crate) fn unmap(&self, range: IovaRange, crossing: Crossing) -> Result<u64> {
        if self.may_join() {
            if let Some(bytes) = self.unmap_quickly(range, crossing)? {
                return Ok(bytes);
            }
        }
        // What is unmapped whole may end beyond the range. No page is pinned and none is populated
        // there: emulated devices pin nothing in such a container, and calls claim parts of complete
        // mappings only if their pages have a state.
        let check = |state: &State| state.check_unmap(range, crossing);
        self.unmap_when_unpinned(range, check, |state| state.unmap(range, crossing))
    }

    /// As [`Container::when_unpinned`], for `work` that unmaps. Then frees and uncharges what is gone.
    pub(super) fn unmap_when_unpinned<R>(
        &self,
        range: IovaRange,
        check: impl FnOnce(&State) -> Result,
        mut work: impl FnMut(&mut State) -> Result<R>,
    ) -> Result<R> {
        let (result, gone, joins) = self.when_unpinned(range, check, |state| {
            let result = work(state)?;
            Ok((result, state.take_removed(), !state.payers.is_empty()))
        })?;

        drop(gone);
        if joins {
            self.settle_payers();
        }
        Ok(result)
    }
}

impl State {
    /// Unmaps what is mapped in `range`. Returns the number of bytes. `crossing` says what happens
    /// to mappings that cross an end of the range. Mappings in progress are skipped.
    ///
    /// Fails with `EINVAL` if a mapping crosses an end and `crossing` refuses that or the mapping
    /// cannot be split, with `ENOSPC` if there are too many mappings, and as
    /// [`State::split_boundaries`]. Nothing is unmapped then.
    pub(crate) fn unmap(&mut self, range: IovaRange, crossing: Crossing) -> Result<u64> {
        let mut range = range;

        self.check_unmap(range, crossing)?;
        if self.mappings.crosses_end_of(range) {
            match crossing {
                Crossing::Split => return self.unmap_parts(range),
                Crossing::Whole if self.mappings.go_on_at(range.start()) => return Ok(0),
                Crossing::Whole => range = self.mappings.to_end_of_last(range),
                Crossing::Refuse => {}
            }
        }
        self.split_for_unmap(range)?;
        Ok(self.unmap_in(range, is_complete))
    }

    /// Fails with `EINVAL` if a mapping crosses an end of `range`, and `crossing` refuses that or the
    /// mapping cannot be split.
    fn check_unmap(&self, range: IovaRange, crossing: Crossing) -> Result {
        let may_cross = match crossing {
            Crossing::Refuse => false,
            Crossing::Split => self.domains.iter().all(|domain| domain.table().is_some()),
            Crossing::Whole => true,
        };

        if !may_cross && self.mappings.crosses_end_of(range) {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Unmaps all mappings, including those in progress, whose calls then fail.
    pub(super) fn unmap_at_end(&mut self) {
        self.unmap_in(IovaRange::ALL, |_| true);
    }

    /// Removes the mappings that overlap `range` and are `selected`, each whole. Returns the number
    /// of bytes.
    fn unmap_in(&mut self, range: IovaRange, selected: impl Fn(&Mapping) -> bool) -> u64 {
        let mut bytes = 0u64;
        let mut left = Some(range);

        step(Step::UnmapBegins);
        while let Some(found) = left.and_then(|left| self.mappings.first_in(left)) {
            left = range.behind(found.range.last());
            if !selected(found) {
                continue;
            }
            let mapping = found.copy();
            self.removed.take(&mut self.mappings, mapping.range);
            step(Step::UnmapRemoved);
            if let Some(mapped) = mapping.mapped() {
                self.clear(&mapping, mapped);
            }
            self.forget(&mapping);
            self.forget_pins(mapping.range);
            bytes = bytes.wrapping_add(mapping.range.bytes().unwrap_or(0));
        }
        bytes.wrapping_add(self.unmap_joined(range))
    }

    /// Splits leaves that cross an end of `range`: those of joined mappings, and of mappings that cross
    /// it, too.
    ///
    /// Fails as [`State::split_boundaries`].
    pub(super) fn split_for_unmap(&mut self, range: IovaRange) -> Result {
        if self.mappings.crosses_end_of(range) {
            self.split_boundaries(range, PageSizes::ALL)
        } else if self.mappings.joined.count() != 0 {
            // Leaves may cross the ends of pieces.
            self.split_boundaries(range, PIECE_SIZES)
        } else {
            Ok(())
        }
    }

    /// As [`Self::unmap`], where mappings cross an end of the range.
    fn unmap_parts(&mut self, range: IovaRange) -> Result<u64> {
        let makes_two = |mapping: &Mapping| {
            is_complete(mapping)
                && mapping.range.start() < range.start()
                && mapping.range.last() > range.last()
        };
        if self.avail == 0 && self.mappings.at(range.start()).is_some_and(makes_two) {
            return Err(ENOSPC);
        }
        let reservations = [NodeReservation::new()?, NodeReservation::new()?];

        self.split_for_unmap(range)?;
        // Nothing fails from here on: mappings end where the range does, and then are unmapped.
        let mut cuts = 0u32;
        for (at, reservation) in [Some(range.start()), range.last().next()]
            .into_iter()
            .zip(reservations)
        {
            if at.is_some_and(|at| self.mappings.split_mapping(at, reservation)) {
                cuts = cuts.saturating_add(1);
            }
        }
        let bytes = self.unmap_in(range, is_complete);
        self.avail = self.avail.saturating_sub(cuts);
        Ok(bytes)
    }
}
