// SPDX-License-Identifier: GPL-2.0

//! Repairs lost leaves in all domains, and fills the stock of tables.

use core::sync::atomic::Ordering;

use kernel::prelude::*;

use super::State;
use crate::rmp::{
    Domain,
    Guard, //
};

impl State {
    /// Repairs lost leaves, if there may be any. Fails with `ENOMEM`.
    pub(super) fn repair_lost(&mut self) -> Result {
        // The hook counts under the lock.
        let guard = Guard::lock();
        let lost = self.follower.stats.fallbacks.load(Ordering::Relaxed);
        drop(guard);

        if lost != self.repaired {
            self.repair()?;
            self.repaired = lost;
        }
        Ok(())
    }

    /// Repairs lost leaves. Sleeps. Fails with `ENOMEM`.
    pub(crate) fn repair(&mut self) -> Result {
        let mut well = true;
        let mappings = &self.mappings;
        let access_of = |range| {
            let mapping = mappings.overlapping(range).next()?;
            Some(mapping.access)
        };

        for domain in self.domains.iter_mut() {
            well &= domain.repair(access_of);
        }
        if well {
            Ok(())
        } else {
            Err(ENOMEM)
        }
    }

    /// Fills the stock of tables if the hook is used, else empties it. Sleeps.
    pub(super) fn keep_reserve(&self) {
        let node = |domain: &Domain| domain.table().map(|table| table.node());

        match self.domains.iter().find_map(node) {
            Some(node) if self.hook.is_some() => self.follower.reserve.fill(node),
            _ => self.follower.reserve.empty(),
        }
    }
}
