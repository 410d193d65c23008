// SPDX-License-Identifier: GPL-2.0

//! The policy that is in force: the VMM's, but while dirty tracking is on.

use kernel::prelude::*;

use super::State;
use crate::{
    pgtable::PageSizes,
    policy::Policy, //
};

impl State {
    /// The VMM's policy. While tracking is on, it is not what is in force.
    pub(crate) fn chosen_policy(&self) -> &Policy {
        self.tracking
            .as_ref()
            .map_or(&self.policy, |tracking| &tracking.chosen)
    }

    /// The sizes that leaves may have while tracking is on.
    pub(crate) fn tracking_sizes(&self) -> PageSizes {
        self.tracking_sizes
    }

    /// Whether tracking is on.
    pub(super) fn is_tracking(&self) -> bool {
        self.tracking.is_some()
    }

    /// What is in force if the VMM's policy is `chosen`.
    pub(super) fn in_force(&self, chosen: &Policy) -> Result<Policy> {
        match &self.tracking {
            Some(tracking) if tracking.small => chosen.limited(self.tracking_sizes),
            _ => chosen.with_rule(chosen.rule()),
        }
    }

    /// The VMM's policy is `chosen` from now on, and `in_force` is in force.
    pub(super) fn adopt_policy(&mut self, chosen: Policy, in_force: Policy) {
        if let Some(tracking) = &mut self.tracking {
            tracking.chosen = chosen;
        }
        self.policy = in_force;
    }
}
