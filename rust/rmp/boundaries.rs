// SPDX-License-Identifier: GPL-2.0

//! Splits leaves at the boundaries of a range, and merges the block at a boundary again.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    domain::Domain,
    follower::Follower, //
};
use crate::{
    iommu::convert_part,
    pgtable::{
        ContigRun,
        Iova,
        IovaRange,
        PageSize,
        PageSizes, //
    },
    policy::{
        Policy,
        Rule, //
    },
    sys::num::unsupported, //
};

impl Domain {
    /// Splits the leaf and the watch that cross `at`. The new leaves have sizes of `policy` and of
    /// `sizes`; 4K is always among them.
    ///
    /// Returns `false` if the hook has unmapped the leaf at `at`: repair it and try again. Sleeps.
    /// Fails with `ENOMEM`, and with `EOPNOTSUPP` if the page table cannot be edited; nothing has
    /// changed then.
    pub(crate) fn split_at(&mut self, at: Iova, policy: &Policy, sizes: PageSizes) -> Result<bool> {
        let table = self.table().ok_or_else(unsupported)?;
        let page = IovaRange::block(at, PageSize::SIZE_4K);

        if self.watches().first_in(page).is_some() {
            return self.split_followed_at(at);
        }
        let sizes = |iova| self.usable(policy.at(iova).rule.sizes.intersect(sizes));
        let left = at.before().map_or(sizes(at), sizes);
        table.edit(|editor| editor.split_boundary(at, left, sizes(at)))?;
        Ok(true)
    }

    /// Merges `block`, of 2M, to one leaf if it is contiguous and `rule` allows it, and follows it
    /// if `rule` says so.
    ///
    /// Sleeps. Fails with `ENOMEM` and `EMLINK`, see
    /// [`watch_counted`](super::watches::watch_counted).
    pub(crate) fn try_merge_block(
        &mut self,
        block: IovaRange,
        rule: Rule,
        follower: &Arc<Follower>,
    ) -> Result {
        const SIZE: PageSize = PageSize::SIZE_2M;
        let sizes = self.usable(rule.sizes).up_to(SIZE);
        let view = self.table().ok_or_else(unsupported)?.view();
        let Some(first) = view.leaf_at(block.start()) else {
            return Ok(());
        };
        let contig = ContigRun {
            range: block,
            phys: first.phys(),
        };
        let ends_well = |leaf: crate::pgtable::Leaf| {
            leaf.phys().at(leaf.iova, block.last()) == contig.phys_at(block.last())
        };

        // Most blocks are not contiguous, and most of these differ at the ends.
        if !sizes.allows(SIZE)
            || first.iova != block.start()
            || first.size() >= SIZE
            || contig.blocks().is_none()
            || !view.leaf_at(block.last()).is_some_and(ends_well)
            || view.extents(block).next().map(|extent| extent.range) != Some(block)
        {
            return Ok(());
        }
        if rule.follows() {
            self.try_merge_followed(contig, rule, follower)
        } else {
            convert_part(self, block, sizes)
        }
    }
}
