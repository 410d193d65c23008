// SPDX-License-Identifier: GPL-2.0

//! A range made ready to be unmapped by itself, and blocks merged again that became whole.

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
    },
    sys::num::unsupported, //
};

impl State {
    /// Sees to it that `range` can be unmapped by itself: no leaf crosses its ends, nor does what is
    /// followed. The translation stays the same all the time.
    ///
    /// Fails with `ENOMEM`, and where leaves were cut they are joined again; but for followed ones of more
    /// than 2M, which have smaller ones then.
    pub(super) fn split_boundaries(&mut self, range: IovaRange) -> Result {
        self.repair_lost()?;
        let large = self.large_across(range)?;
        let result = ends_of(range).try_for_each(|at| self.split_at(at));

        if result.is_err() {
            for (index, leaf) in large {
                if let Some(domain) = self.domains.get(index) {
                    // That takes no memory.
                    let _ = convert_part(domain, leaf.range(), PageSizes::only(leaf.size()));
                }
            }
            for at in [range.start(), range.last()] {
                if let Some(bounds) = self.mappings.at(at).map(|mapping| mapping.range) {
                    self.try_merge_block(bounds, at);
                }
            }
        }
        result
    }

    /// The leaves of more than 2M that cross the ends of `range` and are not followed; and the domain of
    /// each, by its index.
    fn large_across(&self, range: IovaRange) -> Result<KVec<(usize, Leaf)>> {
        let room = self.domains.len().saturating_mul(2);
        let mut found = KVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?;

        for (index, domain) in self.domains.iter().enumerate() {
            let view = domain.table().ok_or_else(unsupported)?.view();
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

    fn split_at(&mut self, at: Iova) -> Result {
        for index in 0..self.domains.len() {
            let cut = |state: &mut Self| {
                let domain = state.domains.get_mut(index);
                domain.map_or(Ok(true), |domain| domain.split_at(at, &state.policy))
            };
            if !cut(self)? {
                // What is repaired has small leaves, which are not lost again.
                self.repair()?;
                if !cut(self)? {
                    return Err(ENOMEM);
                }
            }
        }
        Ok(())
    }

    /// Gives the block of 2M that holds `at`, of a mapping at `bounds`, one leaf in each domain, if it
    /// is mapped as a whole and the policy allows it. If there is no memory, it stays as it is.
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
