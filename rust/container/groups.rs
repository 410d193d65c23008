// SPDX-License-Identifier: GPL-2.0

//! The groups of a container.

use super::State;
use crate::iommu::Group;

impl State {
    /// Calls `each` with every group, and the number of its domain; `None`: its devices are emulated.
    pub(crate) fn each_group(&self, mut each: impl FnMut(Group, Option<usize>)) {
        for (number, domain) in self.domains.iter().enumerate() {
            for group in domain.groups() {
                each(*group, Some(number));
            }
        }
        for group in &self.emulated.groups {
            each(*group, None);
        }
    }
}
