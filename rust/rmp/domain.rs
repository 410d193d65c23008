// SPDX-License-Identifier: GPL-2.0

//! A domain, and what of it follows the RMP.

use core::ops::{
    Deref,
    DerefMut, //
};

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
    iommu::{
        self,
        Group, //
    },
    pgtable::IovaRange,
    policy::Rule, //
};

/// A domain, and what of it follows the RMP.
///
/// What is not about following is [`iommu::Domain`]'s, to which this dereferences.
pub(crate) struct Domain {
    // Dropped first: what is followed refers to the domain.
    watches: Watches,
    iommu: iommu::Domain,
}

impl Deref for Domain {
    type Target = iommu::Domain;

    fn deref(&self) -> &iommu::Domain {
        &self.iommu
    }
}

impl DerefMut for Domain {
    fn deref_mut(&mut self) -> &mut iommu::Domain {
        &mut self.iommu
    }
}

impl Domain {
    /// A domain of its own for `group`, which is attached to it. Nothing is followed.
    pub(crate) fn new(group: Group) -> Result<Self> {
        Ok(Self {
            watches: Watches::new(),
            iommu: iommu::Domain::new(group)?,
        })
    }

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
    pub(crate) fn unmap_present(&mut self, range: IovaRange) -> bool {
        self.watches.set_pending_in(range);
        let done = match self.table() {
            Some(_) => self.unmap_around_holes(range),
            None => self.unmap(range),
        };

        self.watches.remove_in(range);
        done
    }
}
