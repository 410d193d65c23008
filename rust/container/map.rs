// SPDX-License-Identifier: GPL-2.0

//! Map requests: start and end.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    claims::{
        ClaimId,
        NewClaim,
        Purpose, //
    },
    joined::JoinedReservation,
    map_request::MapRequest,
    mapping::{
        InProgress,
        Mapping,
        NodeReservation, //
    },
    Container,
    State, //
};
use crate::{
    mm::Locked,
    sys::{
        num::unsupported,
        testing::{
            step,
            Step, //
        }, //
    }, //
};

impl Container {
    /// Maps memory of the current process. All or nothing.
    ///
    /// Sleeps. Fails with `EEXIST` if the range overlaps a mapping; `ENOSPC` if there are too many
    /// mappings; `EINVAL` if the range is not in a window, if it is too large for dirty tracking,
    /// which is on, or if the last group was detached meanwhile; `EOPNOTSUPP` if it is stateful and
    /// a page table cannot be edited; `ENOMEM`; and as [`Container::populate`].
    pub(crate) fn map(&self, request: &MapRequest) -> Result {
        let is_piece = request.is_piece();
        if is_piece && self.map_quickly(request)? {
            return Ok(());
        }
        let reservation = NodeReservation::new()?;
        let new = NewClaim::new()?;
        let mut locked = Locked::of_current()?;
        let mut joined = None;
        if is_piece {
            locked = self.payer(locked)?;
            joined = Some(JoinedReservation::new()?);
        }
        let begun = self
            .lock_to_map()?
            .begin_map(request, reservation, new, locked, is_piece);
        let (mapping, claim) = begun?;
        let Some(claim) = claim else {
            return Ok(());
        };

        let result = self.with_call_scratch(|call_scratch| {
            self.populate(&mapping, mapping.range, &mut call_scratch.pins)
        });
        let result = self.with_state(|state| state.end_map(&mapping, claim, result, joined));
        // If the last domain went meanwhile, the mapping is not charged.
        mapping.locked.settle();
        result
    }
}

impl State {
    /// Adds the mapping. If there is memory to pin it is in progress until [`State::end_map`].
    ///
    /// Fails as [`Container::map`].
    fn begin_map(
        &mut self,
        request: &MapRequest,
        reservation: NodeReservation,
        new: NewClaim,
        locked: Arc<Locked>,
        is_piece: bool,
    ) -> Result<(Mapping, Option<ClaimId>)> {
        if self.mappings.any_in(request.range) {
            return Err(EEXIST);
        }
        let with_domain = !self.domains.is_empty();
        let joined = &self.mappings.joined;
        let joins = is_piece
            && with_domain
            && !self.emulated.any()
            && joined.take(&request.piece(&locked), self.joined_limit);
        let avail = match joins {
            true => self.avail,
            false => self.avail.checked_sub(1).ok_or(ENOSPC)?,
        };
        if with_domain && !self.windows.admit(request.range) {
            return Err(EINVAL);
        }
        self.check_trackable(request.range)?;
        let editable = self.domains.iter().all(|domain| domain.table().is_some());
        if request.stateful && !(with_domain && editable) {
            return Err(unsupported());
        }
        // Without a domain there is nothing to populate.
        let claim = match request.shared && with_domain {
            true => Some(self.claims.make(request.range, Purpose::Work, new)?),
            false => None,
        };
        let mapping = Mapping {
            range: request.range,
            memory: request.memory,
            access: request.access,
            stateful: request.stateful,
            mixed: request.shared,
            vaddr_invalid: false,
            in_progress: claim.map(|claim| InProgress {
                claim,
                joins,
                mapped: None,
            }),
            locked,
        };

        // INVARIANT: There is no domain, or all of it is private, or nothing of it is mapped yet.
        self.mappings.insert(reservation, mapping.copy());
        self.avail = avail;
        if mapping.stateful {
            self.stateful = self.stateful.saturating_add(mapping.range.pages());
        }
        Ok((mapping, claim))
    }

    /// Ends a map request with `result`: completes the mapping and joins it, or removes it.
    ///
    /// Fails as `result`; with `EINVAL` if the mapping is gone; and with `ENOSPC` if it was to be
    /// joined, cannot be, and there are too many mappings.
    fn end_map(
        &mut self,
        mapping: &Mapping,
        claim: ClaimId,
        result: Result<bool>,
        reservation: Option<JoinedReservation>,
    ) -> Result {
        self.claims.end(claim);
        let Some(made) = self.mappings.in_progress_at(mapping.range.start(), claim) else {
            return result.and(Err(EINVAL));
        };

        match result {
            // INVARIANT: There is no domain, and nothing is mapped.
            _ if self.domains.is_empty() => {
                made.mixed = true;
                made.in_progress = None;
            }
            // INVARIANT: All of it is mapped and pinned.
            Ok(mixed) => {
                made.mixed = mixed;
                made.in_progress = None;
                step(Step::MapInserted);
            }
            Err(error) => {
                self.removed.take(&mut self.mappings, mapping.range);
                self.forget(mapping);
                return Err(error);
            }
        }
        if !mapping.joins() || self.join_mapping(mapping.range, reservation) {
            return Ok(());
        }
        // It stays a mapping of its own.
        match self.avail.checked_sub(1) {
            Some(avail) => {
                self.avail = avail;
                Ok(())
            }
            None => {
                self.removed.take(&mut self.mappings, mapping.range);
                self.clear(mapping, mapping.range);
                self.forget(mapping);
                Err(ENOSPC)
            }
        }
    }
}
