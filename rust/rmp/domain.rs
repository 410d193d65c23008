// SPDX-License-Identifier: GPL-2.0

//! A domain, and what of it follows the RMP.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    follower::Follower,
    watch::Owner,
    watches::Watches, //
};
use crate::{
    iommu::Domain,
    pgtable::IovaRange,
    policy::Rule, //
};

impl Domain {
    /// Who owns what is followed here by `rule`.
    pub(crate) fn owner(&mut self, rule: Rule, follower: &Arc<Follower>) -> Result<Arc<Owner>> {
        let domain = self.raw();

        self.watches_mut().owner(domain, rule.merging(), follower)
    }

    /// What of it follows the RMP.
    pub(crate) fn watches(&self) -> &Watches {
        &self.watches
    }

    pub(crate) fn watches_mut(&mut self) -> &mut Watches {
        &mut self.watches
    }

    /// Unmaps what is mapped of `range` and follows it no more, though there may be holes in it. Says
    /// whether it could.
    ///
    /// No leaf crosses an end of the range.
    pub(crate) fn take_back(&mut self, range: IovaRange) -> bool {
        self.watches.hold_in(range);
        let done = match self.table() {
            Some(_) => self.unmap_around_holes(range),
            None => self.unmap(range),
        };

        self.watches.remove_in(range);
        done
    }
}
