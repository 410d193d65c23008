// SPDX-License-Identifier: GPL-2.0

//! A new policy for what is mapped already: leaves are split and merged while devices use them.

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

/// What a policy request is about.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    /// The container, wherever no range has a policy of its own.
    Container(Rule),
    /// A range; `None`: its own policy goes, and the container's holds there.
    Range(IovaRange, Option<Rule>),
}

impl Scope {
    /// Where it can change anything.
    fn range(&self) -> IovaRange {
        match self {
            Self::Container(_) => IovaRange::ALL,
            Self::Range(range, _) => *range,
        }
    }
}

impl State {
    /// Sets the policy; with `apply`, also converts what is mapped.
    ///
    /// Errors: `EINVAL` a size that not every domain has; `ENOSPC` too many ranges; `EOPNOTSUPP`
    /// `apply` or following, and a domain's page table can not be edited, or there is nothing to
    /// follow; `ENOMEM` and `EINTR`: the policy is as it was, and each leaf is one that the old or
    /// the new policy gives.
    pub(crate) fn set_policy(&mut self, scope: Scope, apply: bool) -> Result {
        let policy = match scope {
            Scope::Container(rule) => self.policy.with_rule(self.checked(rule)?)?,
            Scope::Range(range, Some(rule)) => {
                self.policy.with_range(range, Some(self.checked(rule)?))?
            }
            Scope::Range(range, None) => self.policy.with_range(range, None)?,
        };
        let asks =
            matches!(scope, Scope::Container(rule) | Scope::Range(_, Some(rule)) if rule.split);
        let editable = self.domains.iter().all(|domain| domain.table().is_some());

        if (apply || policy.follows()) && !editable {
            return Err(unsupported());
        }
        if asks && !is_snp_on() {
            return Err(unsupported());
        }
        if (asks || policy.follows()) && self.hook.is_none() {
            self.hook = Some(Hook::new()?);
        }
        // What is split is so with tables that are there.
        self.keep_reserve();
        let result = self.commit_policy(&policy, scope, apply);
        if result.is_ok() {
            self.policy = policy;
        }
        // After an error, or if it is lost, something may still be followed that is not to be.
        let watched = |domain: &Domain| domain.watches().first_in(IovaRange::ALL).is_some();
        if !self.policy.follows() && !self.domains.iter().any(watched) {
            self.hook = None;
        }
        self.keep_reserve();
        result
    }

    /// Follows all mappings that have a part in `scope` as `policy` says, or as the present one does.
    /// Only there something new is followed. After an error all is followed as before.
    fn adopt_all(&mut self, policy: Option<&Policy>, scope: IovaRange) -> Result {
        self.repair()?;
        // What is lost meanwhile has small leaves when it is repaired, and is not lost again.
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

    /// The same; what is new may disagree with the RMP. False: a leaf was lost, and all is followed as
    /// before.
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
        // From here on nothing fails.
        for (index, range, new) in adopted {
            if let Some(domain) = self.domains.get_mut(index) {
                domain.watches_mut().replace(range, new);
            }
            cond_resched();
        }
        Ok(true)
    }

    /// What a new policy does to what is mapped.
    fn commit_policy(&mut self, policy: &Policy, scope: Scope, apply: bool) -> Result {
        let follows = policy.follows() || self.policy.follows();

        if follows {
            self.adopt_all(Some(policy), scope.range())?;
        }
        let result = if apply {
            self.apply(policy, scope)
        } else {
            Ok(())
        };
        if follows && result.is_err() && self.adopt_all(None, scope.range()).is_err() {
            pr_err!("no memory to go on as before: leaves may not follow the RMP\n");
        }
        result
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

    /// `rule`, if every domain has its sizes and 4K is among them.
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

    /// Gives what is mapped in `range` the leaves that `policy` gives; and what lies around it, as
    /// far as leaves may now reach across the range's ends.
    fn convert(&self, policy: &Policy, range: IovaRange) -> Result {
        for mapping in self.mappings.overlapping(range) {
            for segment in policy.segments(mapping.range) {
                for domain in &self.domains {
                    let sizes = domain.usable(segment.rule.sizes);
                    let Some(part) = reach(range, segment.range, sizes) else {
                        continue;
                    };
                    // While the hook may be at work each block is edited by itself.
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

/// Sees to it that no leaf crosses an end of `part`, which is to have `sizes`. What lies outside of
/// it gets leaves that the policy there allows.
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
        // A leaf that crosses both ends is cut here into what the other cut makes good.
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
