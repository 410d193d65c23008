// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Which policy applies where.

use std::collections::BTreeMap;
use std::io;

use crate::bindings::vfio_pgsize_policy;
use crate::bindings::VFIO_PGSIZE_POLICY_APPLY;
use crate::bindings::VFIO_PGSIZE_POLICY_INHERIT;
use crate::bindings::VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT;
use crate::bindings::VFIO_PGSIZE_POLICY_RANGE;
use crate::bindings::VFIO_PGSIZE_POLICY_TRACKING;
use crate::policy::Policy;
use crate::range::IovaRange;
use crate::range::PAGE;
use crate::sizes::PageSizes;

use super::check;
use super::errno;
use super::SUPPORTED;

/// How many ranges can have their own policy.
pub(super) const MAX_RANGES: u32 = 1024;

#[derive(Clone, Debug)]
pub(super) struct PolicyMap {
    container: Policy,
    tracking: PageSizes,
    /// The last address and the policy of ranges, by their first address.
    own: BTreeMap<u64, (u64, Policy)>,
}

impl Default for PolicyMap {
    fn default() -> Self {
        PolicyMap {
            container: Policy::new(PageSizes::ALL),
            tracking: PageSizes::SIZE_4K,
            own: BTreeMap::new(),
        }
    }
}

impl PolicyMap {
    pub(super) fn container(&self) -> Policy {
        self.container
    }

    pub(super) fn ranges(&self) -> u32 {
        self.own.len() as u32
    }

    fn own_at(&self, iova: u64) -> Option<(u64, Policy)> {
        let (_, found) = self.own.range(..=iova).next_back()?;
        Some(*found).filter(|(last, _)| *last >= iova)
    }

    pub(super) fn at(&self, iova: u64) -> Policy {
        self.own_at(iova)
            .map_or(self.container, |(_, policy)| policy)
    }

    /// Whether the container's policy applies.
    pub(super) fn is_inherited(&self, iova: u64) -> bool {
        self.own_at(iova).is_none()
    }

    pub(super) fn get(&self, flags: u32, iova: u64) -> io::Result<vfio_pgsize_policy> {
        let mut answer = vfio_pgsize_policy {
            flags,
            iova,
            pgsizes: self.container.sizes.bits(),
            ..Default::default()
        };
        match flags {
            0 => answer.flags |= self.container.flags(),
            VFIO_PGSIZE_POLICY_TRACKING => answer.pgsizes = self.tracking.bits(),
            VFIO_PGSIZE_POLICY_RANGE if iova % PAGE == 0 => {
                let own = self.own_at(iova);
                let last = match own {
                    Some((last, _)) => last,
                    None => self
                        .own
                        .range(iova..)
                        .next()
                        .map_or(u64::MAX, |(at, _)| at - 1),
                };
                let policy = self.at(iova);
                answer.pgsizes = policy.sizes.bits();
                answer.flags |= policy.flags();
                if own.is_none() {
                    answer.flags |= VFIO_PGSIZE_POLICY_INHERIT;
                }
                answer.size = (last - iova).min(u64::MAX - PAGE) + 1;
            }
            _ => return Err(errno(libc::EINVAL)),
        }
        Ok(answer)
    }

    /// Removes what ranges have in `first..=last`.
    fn carve(&mut self, first: u64, last: u64) {
        let over: Vec<_> = self
            .own
            .range(..=last)
            .filter(|(_, (end, _))| *end >= first)
            .map(|(start, (end, policy))| (*start, *end, *policy))
            .collect();
        for (start, end, policy) in over {
            self.own.remove(&start);
            if start < first {
                self.own.insert(start, (first - 1, policy));
            }
            if end > last {
                self.own.insert(last + 1, (end, policy));
            }
        }
    }

    /// Sets a policy; returns the range, or the whole space, where it is to be applied.
    pub(super) fn set(&mut self, asked: &vfio_pgsize_policy) -> io::Result<Option<IovaRange>> {
        let has = |flag| asked.flags & flag != 0;
        let sizes = PageSizes::from_bits(asked.pgsizes);
        let inherits = has(VFIO_PGSIZE_POLICY_INHERIT);
        let are_good = sizes.contains(PAGE)
            && (sizes == PageSizes::ALL
                || sizes.without(PageSizes::from_bits(SUPPORTED)).is_empty());
        if !(are_good || inherits && sizes.is_empty())
            || inherits && !has(VFIO_PGSIZE_POLICY_RANGE)
            || asked.flags >= VFIO_PGSIZE_POLICY_TRACKING << 1
        {
            return Err(errno(libc::EINVAL));
        }
        // There is no SNP.
        if has(VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT) {
            return Err(errno(libc::EOPNOTSUPP));
        }
        let policy = Policy::from(asked);
        let mut range = IovaRange::new(asked.iova, asked.size);
        if has(VFIO_PGSIZE_POLICY_RANGE) {
            let last = check(range)?;
            let mut next = self.clone();
            next.carve(range.iova, last);
            if !inherits {
                next.own.insert(range.iova, (last, policy));
            }
            if next.ranges() > MAX_RANGES {
                return Err(errno(libc::ENOSPC));
            }
            *self = next;
        } else if range != IovaRange::new(0, 0) {
            return Err(errno(libc::EINVAL));
        } else if has(VFIO_PGSIZE_POLICY_TRACKING) {
            self.tracking = sizes;
            return Ok(None);
        } else {
            self.container = policy;
            range = IovaRange::new(0, 0);
        }
        Ok(Some(range).filter(|_| has(VFIO_PGSIZE_POLICY_APPLY)))
    }
}
