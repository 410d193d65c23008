// SPDX-License-Identifier: GPL-2.0

//! What a container knows of dirty tracking.

use crate::policy::Policy;

/// What is to be known while tracking is on.
pub(super) struct Tracking {
    /// The VMM's policy.
    pub(super) chosen: Policy,
    /// Leaves are small. They are not if not all IOMMUs can note what is written.
    pub(super) small: bool,
}
