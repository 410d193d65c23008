// SPDX-License-Identifier: GPL-2.0

//! No leaf across the boundary of a range, and one leaf again where a block is whole.

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
        PageSize, //
    },
    policy::{
        Policy,
        Rule, //
    },
    sys::num::unsupported, //
};

impl Domain {
    /// No leaf crosses `at` afterwards, nor does what is followed. False: a leaf is lost there, and
    /// has to be repaired first.
    pub(crate) fn split_at(&mut self, at: Iova, policy: &Policy) -> Result<bool> {
        let table = self.table().ok_or_else(unsupported)?;
        let page = IovaRange::block(at, PageSize::SIZE_4K);

        if self.watches().first_in(page).is_some() {
            return self.split_followed_at(at);
        }
        let sizes = |iova| self.usable(policy.at(iova).rule.sizes);
        let left = at.before().map_or(sizes(at), sizes);
        table.edit(|editor| editor.split_boundary(at, left, sizes(at)))?;
        Ok(true)
    }

    /// Gives `block` one leaf, if it is mapped to a block of memory, and follows it if the rule says
    /// so.
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

        // Most are not whole, which the ends often tell.
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
