// SPDX-License-Identifier: GPL-2.0

//! Map requests.

use kernel::sync::Arc;

use super::joined::can_be_joined;
use super::joined_entry::Part;
use crate::{
    iommu::Access,
    mm::{
        Locked,
        UserAddr, //
    },
    pgtable::IovaRange, //
};

/// A map request.
pub(crate) struct MapRequest {
    /// The IOVA range.
    pub(crate) range: IovaRange,
    /// The process address of its start.
    pub(crate) memory: UserAddr,
    /// DMA permissions.
    pub(crate) access: Access,
    /// Pages have a state.
    pub(crate) stateful: bool,
    /// Pin and map all pages now. Always set if not stateful.
    pub(crate) shared: bool,
    /// Join it with others if possible.
    pub(crate) joined: bool,
}

impl MapRequest {
    /// Whether it is to be a piece of a joined mapping. Device registers are found out later.
    pub(super) fn is_piece(&self) -> bool {
        self.joined && !self.stateful && can_be_joined(self.range)
    }

    /// The piece, charged to `locked`.
    pub(super) fn piece(&self, locked: &Arc<Locked>) -> Part {
        Part {
            range: self.range,
            memory: self.memory,
            access: self.access,
            locked: locked.clone(),
        }
    }
}
