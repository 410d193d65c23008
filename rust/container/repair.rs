// SPDX-License-Identifier: GPL-2.0

//! Leaves that the hook had to unmap, mapped again in all domains; and the tables it has ready.

use core::sync::atomic::Ordering;

use kernel::prelude::*;

use super::State;
use crate::rmp::{
    Domain,
    Guard, //
};

impl State {
    /// Maps again what the hook had to unmap, if it had to since that was last done.
    pub(super) fn repair_lost(&mut self) -> Result {
        // The hook counts before it lets the lock go.
        let guard = Guard::lock();
        let lost = self.follower.stats.fallbacks.load(Ordering::Relaxed);
        drop(guard);

        if lost != self.repaired {
            self.repair()?;
            self.repaired = lost;
        }
        Ok(())
    }

    /// Maps again what the hook had to unmap.
    pub(crate) fn repair(&mut self) -> Result {
        let mut well = true;
        let mappings = &self.mappings;
        let access_of = |range| mappings.first_in(range).map(|mapping| mapping.access);

        for domain in self.domains.iter_mut() {
            well &= domain.repair(access_of);
        }
        if well {
            Ok(())
        } else {
            Err(ENOMEM)
        }
    }

    /// The hook has tables in reserve if it is needed, and none if not.
    pub(super) fn keep_reserve(&self) {
        let node = |domain: &Domain| domain.table().map(|table| table.node());

        match self.domains.iter().find_map(node) {
            Some(node) if self.hook.is_some() => self.follower.reserve.fill(node),
            _ => self.follower.reserve.empty(),
        }
    }
}
