// SPDX-License-Identifier: GPL-2.0

//! Splits leaves at the boundaries of a range before a part of a mapping is unmapped, and merges
//! whole blocks.

use kernel::prelude::*;

use super::State;
use crate::{
    iommu::convert_part,
    pgtable::{
        ends_of,
        Iova,
        IovaRange,
        Leaf,
        PageSize,
        PageSizes, //
    }, //
};

impl State {
    /// Splits leaves and watches at the ends of `range`, in all domains that can be edited. The new
    /// leaves have sizes of `sizes` that the policy allows. No translation changes.
    ///
    /// Sleeps. Fails with `ENOMEM`; the leaves that were split are merged again then, except
    /// followed leaves of more than 2M.
    pub(super) fn split_boundaries(&mut self, range: IovaRange, sizes: PageSizes) -> Result {
        self.repair_lost()?;
        let large = self.large_across(range)?;
        let result = ends_of(range).try_for_each(|at| self.split_at(at, sizes));

        if result.is_err() {
            for (index, leaf) in large {
                if let Some(domain) = self.domains.get(index) {
                    // Cannot fail: a merge allocates nothing.
                    let _ = convert_part(domain, leaf.range(), PageSizes::only(leaf.size()));
                }
            }
            for at in [range.start(), range.last()] {
                let single = self.mappings.at(at).map(|mapping| mapping.range);
                let bounds = single.or_else(|| self.mappings.joined.whole_block(at));
                if let Some(bounds) = bounds {
                    self.try_merge_block(bounds, at);
                }
            }
        }
        result
    }

    /// The leaves of more than 2M that cross an end of `range` and are not followed, with the index
    /// of their domain.
    fn large_across(&self, range: IovaRange) -> Result<KVec<(usize, Leaf)>> {
        let room = self.domains.len().saturating_mul(2);
        let mut found = KVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?;

        for (index, domain) in self.domains.iter().enumerate() {
            let Some(table) = domain.table() else {
                continue;
            };
            let view = table.view();
            let large = ends_of(range).filter_map(|at| {
                view.leaf_at(at)
                    .filter(|leaf| leaf.iova != at && leaf.size() > PageSize::SIZE_2M)
            });
            for leaf in large {
                if domain.watches().first_in(leaf.range()).is_none() {
                    found.push((index, leaf), GFP_KERNEL_ACCOUNT)?;
                }
            }
        }
        Ok(found)
    }

    fn split_at(&mut self, at: Iova, sizes: PageSizes) -> Result {
        for index in 0..self.domains.len() {
            let cut = |state: &mut Self| {
                // In a domain that cannot be edited no leaf crosses an end of what a call mapped.
                let domain = state.domains.get_mut(index);
                let editable = domain.filter(|domain| domain.table().is_some());
                editable.map_or(Ok(true), |domain| domain.split_at(at, &state.policy, sizes))
            };
            if !cut(self)? {
                // A leaf that is repaired is small, and cannot be lost again.
                self.repair()?;
                if !cut(self)? {
                    return Err(ENOMEM);
                }
            }
        }
        Ok(())
    }

    /// Merges the 2M block that contains `at`, of a mapping at `bounds`, in each domain where the
    /// block is contiguous and the policy allows it. Sleeps. Errors are ignored: the leaves stay
    /// small.
    pub(crate) fn try_merge_block(&mut self, bounds: IovaRange, at: Iova) {
        const SIZE: PageSize = PageSize::SIZE_2M;
        let block = IovaRange::block(at, SIZE);
        if !bounds.covers(block) {
            return;
        }
        let segment = self.policy.segment_at(block.start(), bounds);
        if !segment.range.covers(block) || !segment.rule.sizes.allows(SIZE) {
            return;
        }

        for domain in self.domains.iter_mut() {
            let _ = domain.try_merge_block(block, segment.rule, &self.follower);
        }
    }
}
