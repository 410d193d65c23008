// SPDX-License-Identifier: GPL-2.0

//! Waiting for ranges at which other calls are at work: see [`claims`](super::claims).

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
    /// Claims `range`, and waits until nobody else is at work there. The claim is the caller's to
    /// [end](Claims::end).
    ///
    /// Fails with `EINTR` if a fatal signal came, and `ENOMEM`.
    pub(super) fn claim(
        &self,
        range: IovaRange,
        purpose: Purpose,
    ) -> Result<(StateGuard<'_>, ClaimId)> {
        let new = NewClaim::new()?;
        let mut state = self.lock()?;
        let id = state.claims.make(range, purpose, new)?;

        while let Some(end) = state.claims.before(id, range, purpose) {
            drop(state);
            let waited = end.wait();
            state = self.state.lock();
            if let Err(error) = waited {
                state.claims.end(id);
                return Err(error);
            }
        }
        Ok((state, id))
    }

    /// Runs `work`, which unmaps, when nobody is at work in `range`.
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
