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
    /// Sleeps. Fails with `EINVAL` if the container is closed, `ENOMEM`, and `EINTR` on a fatal
    /// signal.
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
