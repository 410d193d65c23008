// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Counters.

use crate::bindings::vfio_pgsize_stats;

/// Counters: those of following the RMP since the container got its IOMMU, and bytes of stateful
/// mappings now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Leaves that were split, in all domains.
    pub splits: u64,
    /// Leaves that replaced smaller ones.
    pub merges: u64,
    /// Leaves that were unmapped because there was no memory to split them: DMA faulted there.
    pub fallbacks: u64,
    /// Ranges that were mapped again after that.
    pub repairs: u64,
    /// Calls that the kernel did not report, for all containers.
    pub missed: u64,
    /// Leaves that disagreed with the RMP.
    pub mismatches: u64,
    /// Shared bytes of stateful mappings.
    pub shared: u64,
    /// All bytes of stateful mappings.
    pub stateful: u64,
}

impl From<vfio_pgsize_stats> for Stats {
    fn from(stats: vfio_pgsize_stats) -> Self {
        Stats {
            splits: stats.splits,
            merges: stats.merges,
            fallbacks: stats.fallbacks,
            repairs: stats.repairs,
            missed: stats.missed,
            mismatches: stats.mismatches,
            shared: stats.shared,
            stateful: stats.stateful,
        }
    }
}
