// SPDX-License-Identifier: GPL-2.0

//! The state of dirty tracking.

use crate::policy::Policy;

/// The state of a container while tracking is on.
pub(super) struct Tracking {
    /// The VMM's policy.
    pub(super) chosen: Policy,
    /// Leaves are small. They are not if an IOMMU has no dirty bits.
    pub(super) small: bool,
}
