// SPDX-License-Identifier: GPL-2.0

//! Maps pieces of joined mappings: a few pages the quick way; any other piece is a mapping until it
//! is complete, and is joined then.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    joined::JoinedReservation,
    joined_entry::Part,
    map_request::MapRequest,
    mapping::Mapping,
    page_state_quick::{
        is_small,
        Quick, //
    },
    payers::Payers,
    pieces,
    Container,
    State, //
};
use crate::{
    mm::{
        EarlyPins,
        Locked,
        Plain, //
    },
    pgtable::{
        Iova,
        IovaRange, //
    }, //
};

/// Pieces that one more joined mapping has room for.
const PIECES: u64 = pieces::PAGES as u64;

/// Maximum that `VFIO_IOMMU_GET_INFO` reports: a program may take it for a signed number.
const MOST_AVAIL: u64 = 0x7fff_ffff;

impl Container {
    /// Maps a piece if that can be done quickly. Returns whether it did.
    ///
    /// Sleeps. Fails with `EEXIST`, and as [`Container::lock`].
    pub(super) fn map_quickly(&self, request: &MapRequest) -> Result<bool> {
        let range = request.range;
        if !is_small(range) {
            return Ok(false);
        }
        let state = self.lock()?;
        state.check_free(range)?;
        let Some(piece) = state.piece_with_room(request) else {
            return Ok(false);
        };
        if !state.may_map_quickly(&piece) {
            return Ok(false);
        }
        drop(state);
        // Takes mmap_lock.
        piece.locked.reserve(range.pages());

        let mapped = self.with_call_scratch(|scratch| {
            let mut pins =
                EarlyPins::new(&mut scratch.pins.pages, &piece.locked, piece.access.write);
            pins.charge(range.pages());
            if !pins.pin(piece.memory, range.pages(), &mut Plain::default()) {
                return Ok(false);
            }
            let mut state = self.lock()?;

            // Other calls may have changed it meanwhile.
            state.check_free(range)?;
            let is_same = |now: Part| Arc::ptr_eq(&now.locked, &piece.locked);
            let mapped = state.piece_with_room(request).is_some_and(is_same)
                && state.map_piece_quickly(&piece, &mut pins);
            Ok(mapped)
        });
        if mapped != Ok(true) {
            piece.locked.settle();
        }
        mapped
    }

    /// Who is charged for pieces of the current process: `new`, unless it has mapped pieces before.
    ///
    /// Fails with `ENOMEM`, and as [`Container::lock`].
    pub(super) fn payer(&self, new: Arc<Locked>) -> Result<Arc<Locked>> {
        let mut idle = Payers::new();
        let mut state = self.lock()?;
        // Nothing is joined now.
        if state.emulated.any() || state.domains.is_empty() {
            return Ok(new);
        }
        let payer = state.payers.current_or(new, &mut idle);

        drop(state);
        idle.settle();
        payer
    }
}

impl State {
    /// Number of further mappings that are allowed, if all of them can be joined. With emulated devices
    /// none can.
    pub(crate) fn avail_if_joined(&self) -> u32 {
        if self.emulated.any() {
            return self.avail;
        }
        let left = self
            .joined_limit
            .saturating_sub(self.mappings.joined.count());
        let pieces = u64::from(left).saturating_mul(PIECES);
        let all = pieces.saturating_add(u64::from(self.avail));

        u32::try_from(all.min(MOST_AVAIL)).unwrap_or(u32::MAX)
    }

    /// Fails with `EEXIST` if something in `range` is mapped.
    fn check_free(&self, range: IovaRange) -> Result {
        if self.mappings.any_in(range) {
            return Err(EEXIST);
        }
        Ok(())
    }

    /// The piece of a request, if there is a joined mapping with room for it.
    fn piece_with_room(&self, request: &MapRequest) -> Option<Part> {
        let piece = request.piece(self.payers.current()?);

        (self.windows.admit(piece.range) && self.mappings.joined.have_room(&piece)).then_some(piece)
    }

    /// Whether it is worth while to pin the pages of `piece`. A single page has all sizes that a leaf of it
    /// could have, and nearly always a table.
    fn may_map_quickly(&self, piece: &Part) -> bool {
        let [domain] = &self.domains[..] else {
            return false;
        };

        match piece.range.pages() {
            1 => domain.table().is_some(),
            _ => {
                let mapping = Mapping::from(piece.clone());
                self.may_share(&mapping, piece.range, &mut Quick::without_pins())
            }
        }
    }

    /// Maps `piece`, for which there is room, and whose pages are pinned. Returns whether it did.
    fn map_piece_quickly(&mut self, piece: &Part, pins: &mut EarlyPins<'_>) -> bool {
        let range = piece.range;
        if self.claims.any_in(range) {
            return false;
        }
        let mut quick = Quick::new(pins);
        let mapping = Mapping::from(piece.clone());
        let filled = self.fill_quickly(&mapping, range, &mut quick);

        self.flush_quick(&mapping, &mut quick);
        let Some(may_be_whole) = filled else {
            return false;
        };
        // There is room.
        let added = self.mappings.joined.add(piece, None, u32::MAX);
        if kernel::warn_on!(!added) {
            self.clear(&mapping, range);
            return false;
        }
        if may_be_whole {
            self.merge_joined_block(range.start());
        }
        true
    }

    /// Makes the mapping at `range`, which is complete, a piece of a joined mapping if possible.
    /// Returns whether it did.
    pub(super) fn join_mapping(
        &mut self,
        range: IovaRange,
        reservation: Option<JoinedReservation>,
    ) -> bool {
        let mapping = self.mappings.at(range.start());
        // Emulated devices came meanwhile: they find no joined mappings.
        let Some(mapping) = mapping.filter(|mapping| !mapping.mixed && !self.emulated.any()) else {
            return false;
        };
        let piece = mapping.as_part();

        // An account that paid for nothing yet may have been dropped meanwhile.
        if !self.payers.has(&piece.locked) {
            return false;
        }
        if !self
            .mappings
            .joined
            .add(&piece, reservation, self.joined_limit)
        {
            return false;
        }
        self.removed.take(&mut self.mappings, range);
        self.merge_joined_block(range.start());
        self.merge_joined_block(range.last());
        true
    }

    /// Merges the 2M block that contains `at`, if all of it is mapped.
    pub(super) fn merge_joined_block(&mut self, at: Iova) {
        if let Some(block) = self.mappings.joined.whole_block(at) {
            self.try_merge_block(block, at);
        }
    }
}
