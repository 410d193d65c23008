// SPDX-License-Identifier: GPL-2.0

//! The state of dirty tracking.

use crate::policy::Policy;

/// The state of a container while tracking is on.
pub(super) struct Tracking {
    /// The VMM's policy, which is in force again when tracking stops.
    pub(super) chosen: Policy,
    /// Leaves were split. They are not as long as an IOMMU has no dirty bits.
    pub(super) small: bool,
}
