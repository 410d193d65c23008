// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Policies: which leaf sizes are allowed where.

use crate::bindings::vfio_pgsize_policy;
use crate::bindings::VFIO_PGSIZE_POLICY_INHERIT;
use crate::bindings::VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT;
use crate::bindings::VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE;
use crate::bindings::VFIO_PGSIZE_POLICY_RANGE;
use crate::calls::Call;
use crate::calls::Calls;
use crate::container::Container;
use crate::error::explain;
use crate::error::Error;
use crate::range::IovaRange;
use crate::range::PAGE;
use crate::sizes::PageSizes;

/// Whether leaves of 2M and more follow the RMP of an SNP host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Follow {
    /// They do not.
    #[default]
    No,
    /// A 2M gets 4K leaves before its RMP entry is smashed, or a page of it is assigned.
    Split,
    /// Also, a 2M that is whole again gets its leaf back.
    SplitAndMerge,
}

/// Which leaf sizes are allowed, and whether leaves follow the RMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The allowed leaf sizes.
    pub sizes: PageSizes,
    /// Whether leaves follow the RMP.
    pub follow: Follow,
}

impl Policy {
    /// Leaves of these sizes, which do not follow the RMP. The sizes include 4K.
    pub const fn new(sizes: PageSizes) -> Self {
        Policy {
            sizes,
            follow: Follow::No,
        }
    }

    /// The same sizes, and whether leaves follow the RMP.
    pub const fn follow(self, follow: Follow) -> Self {
        Policy { follow, ..self }
    }

    /// The flags of this policy.
    pub(crate) fn flags(self) -> u32 {
        match self.follow {
            Follow::No => 0,
            Follow::Split => VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT,
            Follow::SplitAndMerge => {
                VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT | VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE
            }
        }
    }
}

impl From<&vfio_pgsize_policy> for Policy {
    fn from(policy: &vfio_pgsize_policy) -> Self {
        let follow = if policy.flags & VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE != 0 {
            Follow::SplitAndMerge
        } else if policy.flags & VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT != 0 {
            Follow::Split
        } else {
            Follow::No
        };
        Policy::new(PageSizes::from_bits(policy.pgsizes)).follow(follow)
    }
}

/// The policy in a call that sets none.
pub(crate) const NO_POLICY: Policy = Policy::new(PageSizes::from_bits(0));

/// Where a policy applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Wherever no range has its own policy.
    Container,
    /// The range, which need not be mapped. Earlier policies of the same addresses are replaced.
    Range(IovaRange),
}

impl Scope {
    /// The range, if it is one.
    pub(crate) fn range(self) -> Option<IovaRange> {
        match self {
            Scope::Container => None,
            Scope::Range(range) => Some(range),
        }
    }
}

/// A part of the address space with one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyPart {
    /// The part. Its size is at most 2^64 - 4096.
    pub range: IovaRange,
    /// The policy.
    pub policy: Policy,
    /// Whether this is the container's policy, and not the range's own.
    pub is_inherited: bool,
}

/// The policies of the whole address space, in rising order: [`Container::policies`].
///
/// [`Container::policies`]: crate::Container::policies
#[must_use]
pub struct Policies<'a, C: ?Sized> {
    container: &'a C,
    next: Option<u64>,
}

impl<'a, C: Calls + ?Sized> Policies<'a, C> {
    pub(crate) fn new(container: &'a C) -> Self {
        Policies {
            container,
            next: Some(0),
        }
    }
}

/// The policy at an address, and how far it goes from there.
pub(crate) fn policy_at(container: &(impl Calls + ?Sized), iova: u64) -> Result<PolicyPart, Error> {
    let found = container
        .raw_get_policy(VFIO_PGSIZE_POLICY_RANGE, iova)
        .map_err(|error| {
            explain(
                container,
                Call::GetPolicy,
                Some(IovaRange::new(iova, PAGE)),
                error,
            )
        })?;
    Ok(PolicyPart {
        range: IovaRange::new(iova, found.size),
        policy: Policy::from(&found),
        is_inherited: found.flags & VFIO_PGSIZE_POLICY_INHERIT != 0,
    })
}

impl<C: Calls + ?Sized> Iterator for Policies<'_, C> {
    type Item = Result<PolicyPart, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = match policy_at(self.container, self.next.take()?) {
            Ok(part) => part,
            Err(error) => return Some(Err(error)),
        };
        // A size of 0 would be a bug of the kernel, and an endless loop.
        self.next = part
            .range
            .iova
            .checked_add(part.range.size)
            .filter(|_| part.range.size != 0);
        // One policy for all addresses does not fit into a size: it is one part nevertheless.
        if part.range.iova == 0 && self.next == Some(0u64.wrapping_sub(PAGE)) && part.is_inherited {
            if let Ok(last) = policy_at(self.container, 0u64.wrapping_sub(PAGE)) {
                self.next = self.next.filter(|_| !last.is_inherited);
            }
        }
        Some(Ok(part))
    }
}

/// Sets a policy, of a range or of the container, with these flags.
pub(crate) fn set_policy(
    container: &(impl Calls + ?Sized),
    range: Option<IovaRange>,
    policy: Policy,
    flags: u32,
) -> Result<(), Error> {
    let IovaRange { iova, size } = range.unwrap_or(IovaRange::new(0, 0));
    let in_range = range.map_or(0, |_| VFIO_PGSIZE_POLICY_RANGE);
    let asked = vfio_pgsize_policy {
        flags: flags | policy.flags() | in_range,
        iova,
        size,
        pgsizes: policy.sizes.bits(),
        ..Default::default()
    };
    let Err(error) = container.raw_set_policy(asked) else {
        return Ok(());
    };
    let inherits = flags & VFIO_PGSIZE_POLICY_INHERIT != 0;
    Err(match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) if policy.follow != Follow::No => Error::CannotFollow,
        Some(libc::ENOSPC) => Error::TooManyRanges {
            nr_ranges: container.info().map_or(0, |info| info.nr_ranges),
        },
        Some(libc::EINVAL) if !inherits => bad_sizes(container, policy.sizes)
            .unwrap_or_else(|| explain(container, Call::SetPolicy, range, error)),
        _ => explain(container, Call::SetPolicy, range, error),
    })
}

/// What is wrong with a set of sizes.
fn bad_sizes(container: &(impl Calls + ?Sized), sizes: PageSizes) -> Option<Error> {
    // Without an IOMMU it is not the sizes.
    let supported = container.info().ok()?.supported;
    let missing = sizes.without(supported);

    if !sizes.contains(PAGE) {
        Some(Error::Lacks4K(sizes))
    } else if sizes != PageSizes::ALL && !missing.is_empty() {
        Some(Error::UnsupportedSizes { missing, supported })
    } else {
        None
    }
}
