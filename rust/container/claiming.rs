// SPDX-License-Identifier: GPL-2.0

//! Waits for claims of other calls: see [`claims`](super::claims).

use kernel::prelude::*;

use super::{
    claims::{
        ClaimId,
        NewClaim,
        Purpose, //
    },
    Container,
    State,
    StateGuard, //
};
use crate::pgtable::IovaRange;

impl Container {
    /// Claims `range`, and waits for overlapping claims that were made before. The caller
    /// [ends](super::claims::Claims::end) the claim.
    ///
    /// Sleeps. Fails with `EINVAL` if the container is closed, or to pin in a range that
    /// devices are told to unpin, `ENOMEM`, and `EINTR` on a fatal signal.
    pub(super) fn claim(
        &self,
        range: IovaRange,
        purpose: Purpose,
    ) -> Result<(StateGuard<'_>, ClaimId)> {
        let new = NewClaim::new()?;
        let mut state = self.lock()?;
        let id = state.claims.make(range, purpose, new)?;

        loop {
            if purpose == Purpose::Pin && state.emulated.is_leaving(range) {
                state.claims.end(id);
                return Err(EINVAL);
            }
            let Some(end) = state.claims.before(id, range, purpose) else {
                return Ok((state, id));
            };
            drop(state);
            let waited = end.wait();
            state = self.state.lock();
            if let Err(error) = waited {
                state.claims.end(id);
                return Err(error);
            }
        }
    }

    /// Takes the lock to make a mapping. Waits while the first domain is populated.
    ///
    /// Sleeps. Fails as [`Container::lock`].
    pub(super) fn lock_to_map(&self) -> Result<StateGuard<'_>> {
        loop {
            let state = self.lock()?;
            let Some(end) = state.claims.attaching() else {
                return Ok(state);
            };
            drop(state);
            end.wait()?;
        }
    }

    /// Calls `work`, which unmaps, when no other call works in `range`. Sleeps. Fails as `work` and
    /// [`Self::claim`].
    pub(super) fn when_unclaimed<R>(
        &self,
        range: IovaRange,
        work: impl FnOnce(&mut State) -> Result<R>,
    ) -> Result<R> {
        let mut state = self.lock()?;
        if !state.claims.any_at_work_in(range) {
            return work(&mut state);
        }
        drop(state);

        let (mut state, id) = self.claim(range, Purpose::Unmap)?;
        let result = work(&mut state);
        state.claims.end(id);
        result
    }
}
