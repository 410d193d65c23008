// SPDX-License-Identifier: GPL-2.0

//! Sets policies, and applies them to what is mapped: splits and merges leaves while devices use
//! them.

use kernel::prelude::*;

use super::State;
use crate::{
    iommu::convert_part,
    pgtable::{
        IovaRange,
        Leaf,
        PageSizes, //
    },
    policy::{
        reach,
        Policy,
        Rule, //
    },
    rmp::{
        is_snp_on,
        Domain,
        Hook, //
    },
    sys::{
        num::unsupported,
        sched::{
            cond_resched,
            cond_resched_killable, //
        }, //
    }, //
};

/// What a policy request applies to.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    /// The container: all IOVAs without a policy of their own.
    Container(Rule),
    /// A range. `None`: it inherits the container's policy.
    Range(IovaRange, Option<Rule>),
}

impl Scope {
    /// The range in which the request may change leaves.
    fn range(&self) -> IovaRange {
        match self {
            Self::Container(_) => IovaRange::ALL,
            Self::Range(range, _) => *range,
        }
    }
}

impl State {
    /// Sets the policy. With `apply`, also converts what is mapped.
    ///
    /// Sleeps. Fails with `EINVAL` if a domain does not support a size; `ENOSPC` if there are too
    /// many ranges; `EOPNOTSUPP` if `apply` or the policy needs a page table that cannot be edited,
    /// or if there is no RMP; `ENOMEM`; `EMLINK`; `EINTR` on a fatal signal. On failure the policy
    /// is unchanged, and each leaf is one of the old or of the new policy.
    pub(crate) fn set_policy(&mut self, scope: Scope, apply: bool) -> Result {
        let now = self.chosen_policy();
        let chosen = match scope {
            Scope::Container(rule) => now.with_rule(self.checked(rule)?)?,
            Scope::Range(range, Some(rule)) => now.with_range(range, Some(self.checked(rule)?))?,
            Scope::Range(range, None) => now.with_range(range, None)?,
        };
        let policy = self.in_force(&chosen)?;
        let asks =
            matches!(scope, Scope::Container(rule) | Scope::Range(_, Some(rule)) if rule.split);
        let editable = self.domains.iter().all(|domain| domain.table().is_some());

        if (apply || chosen.follows()) && !editable {
            return Err(unsupported());
        }
        if asks && !is_snp_on() {
            return Err(unsupported());
        }
        if (asks || chosen.follows()) && self.hook.is_none() {
            self.hook = Some(Hook::new()?);
        }
        // Splits of the hook use tables in stock.
        self.keep_reserve();
        let result = self.commit_policy(&policy, scope.range(), |state| match apply {
            true => state.apply(&policy, scope),
            false => Ok(()),
        });
        if result.is_ok() {
            self.adopt_policy(chosen, policy);
            self.has_default &= matches!(scope, Scope::Range(..));
        }
        // After an error there may be watches that the policy does not ask for.
        let watched = |domain: &Domain| domain.watches().first_in(IovaRange::ALL).is_some();
        if !self.chosen_policy().follows() && !self.domains.iter().any(watched) {
            self.hook = None;
        }
        self.keep_reserve();
        result
    }

    /// Replaces the watches of all mappings that overlap `scope`, as `policy` or else the current
    /// policy says. On failure the old watches stay.
    fn adopt_all(&mut self, policy: Option<&Policy>, scope: IovaRange) -> Result {
        self.repair()?;
        // A leaf that is repaired is small, and cannot be lost again.
        while !self.adopt(policy, scope)? {
            self.repair()?;
        }
        for mapping in self.mappings.overlapping(scope) {
            if let Some(changed) = mapping.range.intersect(scope) {
                for domain in &self.domains {
                    domain.split_mismatched(changed);
                }
            }
        }
        Ok(())
    }

    /// As [`Self::adopt_all`], but new watches may disagree with the RMP. Returns `false` if a leaf
    /// is lost; the old watches stay then.
    fn adopt(&mut self, policy: Option<&Policy>, scope: IovaRange) -> Result<bool> {
        let policy = policy.unwrap_or(&self.policy);
        let mut adopted = KVVec::new();
        let mut result = Ok(true);

        'all: for mapping in self.mappings.overlapping(scope) {
            for (index, domain) in self.domains.iter_mut().enumerate() {
                result = match domain.prepare(mapping.range, policy, &self.follower) {
                    Ok(Some(new)) => adopted
                        .push((index, mapping.range, new), GFP_KERNEL_ACCOUNT)
                        .map(|()| true)
                        .map_err(Error::from),
                    Ok(None) => Ok(false),
                    Err(error) => Err(error),
                };
                if result != Ok(true) {
                    break 'all;
                }
            }
        }
        if result != Ok(true) {
            for mapping in self.mappings.overlapping(scope) {
                for domain in &self.domains {
                    domain.watches().set_being_replaced(mapping.range, false);
                }
            }
            return result;
        }
        // Cannot fail from here on.
        for (index, range, new) in adopted {
            if let Some(domain) = self.domains.get_mut(index) {
                domain.watches_mut().replace(range, new);
            }
            cond_resched();
        }
        Ok(true)
    }

    /// Replaces watches in `range`, outside of which the policies agree, and converts leaves by
    /// `convert`. On failure restores the watches.
    fn commit_policy(
        &mut self,
        policy: &Policy,
        range: IovaRange,
        convert: impl FnOnce(&Self) -> Result,
    ) -> Result {
        let follows = policy.follows() || self.policy.follows();

        if follows {
            self.adopt_all(Some(policy), range)?;
        }
        let result = convert(self);
        if follows && result.is_err() && self.adopt_all(None, range).is_err() {
            pr_err!("no memory to restore the policy: leaves may not follow the RMP\n");
        }
        result
    }

    /// Converts all that is mapped to the leaves of `policy`, and replaces all watches.
    ///
    /// Fails as [`State::set_policy`].
    pub(super) fn convert_all(&mut self, policy: &Policy) -> Result {
        self.commit_policy(policy, IovaRange::ALL, |state| {
            state.convert(policy, IovaRange::ALL)
        })
    }

    /// As [`Self::convert_all`], for a policy that only splits. Leaves that follow the RMP follow it until
    /// they are split.
    pub(super) fn split_all(&mut self, policy: &Policy) -> Result {
        if !self.policy.follows() {
            return self.convert_all(policy);
        }
        // Else the hook might merge what is split already.
        let settled = self.policy.never_merging()?;
        self.commit_policy(&settled, IovaRange::ALL, |state| {
            state.convert(policy, IovaRange::ALL)
        })?;
        self.adopt_all(Some(policy), IovaRange::ALL)
    }

    fn apply(&self, policy: &Policy, scope: Scope) -> Result {
        match scope {
            Scope::Container(_) => {
                for segment in policy.inherited(IovaRange::ALL) {
                    self.convert(policy, segment.range)?;
                }
                Ok(())
            }
            Scope::Range(range, _) => self.convert(policy, range),
        }
    }

    /// Checks that all domains support the sizes of `rule`, that 4K is among them, and that merge
    /// implies split.
    fn checked(&self, rule: Rule) -> Result<Rule> {
        let sizes = rule.sizes;
        let good = sizes == PageSizes::ALL
            || self.supported().contains(sizes) && sizes.contains(PageSizes::ONLY_4K);

        if good && (rule.split || !rule.merge) {
            Ok(rule)
        } else {
            Err(EINVAL)
        }
    }

    /// Converts what is mapped in `range` to the leaves of `policy`, and what is around it as far
    /// as new leaves may reach across the ends of the range.
    fn convert(&self, policy: &Policy, range: IovaRange) -> Result {
        for mapping in self.mappings.overlapping(range) {
            for segment in policy.segments(mapping.range) {
                for domain in &self.domains {
                    let sizes = domain.usable(segment.rule.sizes);
                    let Some(part) = reach(range, segment.range, sizes) else {
                        continue;
                    };
                    // The hook may edit these leaves, so edit block by block.
                    if domain.watches().first_in(part).is_some() {
                        domain.convert_live(part, sizes, segment.rule.follows())?;
                    } else {
                        split_part_boundaries(domain, policy, part, sizes)?;
                        convert_part(domain, part, sizes)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Splits the leaves that cross an end of `part`, which gets `sizes`. Their parts outside get the
/// sizes of `policy` there.
fn split_part_boundaries(
    domain: &Domain,
    policy: &Policy,
    part: IovaRange,
    sizes: PageSizes,
) -> Result {
    let table = domain.table().ok_or_else(unsupported)?;
    let outside = |iova| domain.usable(policy.at(iova).rule.sizes);
    let left = part.start().before().map_or(sizes, outside);

    if let Some(behind) = part.last().next() {
        // A leaf that crosses both ends: the split at the start follows, and finishes it.
        let crosses_both = |leaf: &Leaf| leaf.iova < part.start();
        let both = table
            .view()
            .leaf_at(behind)
            .as_ref()
            .is_some_and(crosses_both);
        let inner = if both { left } else { sizes };
        table.edit(|editor| editor.split_boundary(behind, inner, outside(behind)))?;
    }
    table.edit(|editor| editor.split_boundary(part.start(), left, sizes))?;
    cond_resched_killable()
}
