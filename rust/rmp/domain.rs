// SPDX-License-Identifier: GPL-2.0

//! An IOMMU domain with its watches.

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

/// An IOMMU domain with its watches.
///
/// Dereferences to [`iommu::Domain`] for all that does not depend on the RMP.
pub(crate) struct Domain {
    // Dropped first: watches refer to the domain.
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
    /// Creates a domain for `group`, and attaches the group. There are no watches. Fails as the
    /// IOMMU core.
    pub(crate) fn new(group: Group) -> Result<Self> {
        Ok(Self {
            watches: Watches::new(),
            iommu: iommu::Domain::new(group)?,
        })
    }

    /// The owner for watches of `rule` in this domain. Fails with `ENOMEM`.
    pub(crate) fn owner(&mut self, rule: Rule, follower: &Arc<Follower>) -> Result<Arc<Owner>> {
        let domain = self.raw();

        self.watches_mut().owner(domain, rule.merging(), follower)
    }

    /// The watches.
    pub(crate) fn watches(&self) -> &Watches {
        &self.watches
    }

    /// The watches.
    pub(crate) fn watches_mut(&mut self) -> &mut Watches {
        &mut self.watches
    }

    /// Unmaps what is mapped in `range`, flushes, and removes the watches. There may be holes if
    /// the page table can be read. Returns whether it unmapped all.
    ///
    /// No leaf may cross an end of the range. Sleeps.
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
