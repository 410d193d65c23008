// SPDX-License-Identifier: GPL-2.0

//! A new policy for what is mapped already: leaves are split and merged while devices use them.

use kernel::prelude::*;

use crate::{
    container::State,
    domain::{
        give_way,
        Domain, //
    },
    pgtable::{
        Conversion,
        Iova,
        IovaRange,
        PageSizes,
        Progress, //
    },
    policy::{
        reach,
        Policy,
        Segment, //
    },
    table::PageTable, //
};

/// Tables that are made, or given back, between two flushes: a megabyte of them.
const WORK: u32 = 256;

/// What a policy request is about.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    /// The container, wherever no range has a policy of its own.
    Container(PageSizes),
    /// A range; `None`: its own policy goes, and the container's holds there.
    Range(IovaRange, Option<PageSizes>),
}

impl State {
    /// Sets the policy; with `apply`, also converts what is mapped.
    ///
    /// Errors: `EINVAL` a size that not every domain has; `ENOSPC` too many ranges; `EOPNOTSUPP`
    /// `apply`, and a domain's page table can not be edited; `ENOMEM` and `EINTR`: the policy is as
    /// it was, and each leaf is one that the old or the new policy gives.
    pub(crate) fn set_policy(&mut self, scope: Scope, apply: bool) -> Result {
        let policy = match scope {
            Scope::Container(sizes) => self.policy.with_sizes(self.checked(sizes)?)?,
            Scope::Range(range, Some(sizes)) => {
                self.policy.with_range(range, Some(self.checked(sizes)?))?
            }
            Scope::Range(range, None) => self.policy.with_range(range, None)?,
        };

        if apply {
            if self.domains.iter().any(|domain| domain.table().is_none()) {
                return Err(EOPNOTSUPP);
            }
            match scope {
                Scope::Container(_) => {
                    for segment in policy.inherited(IovaRange::ALL) {
                        self.convert(&policy, segment.range)?;
                    }
                }
                Scope::Range(range, _) => self.convert(&policy, range)?,
            }
        }
        self.policy = policy;
        Ok(())
    }

    /// `sizes`, if every domain has them and 4K is among them.
    fn checked(&self, sizes: PageSizes) -> Result<PageSizes> {
        let good = sizes == PageSizes::ALL
            || self.supported().contains(sizes) && sizes.contains(PageSizes::ONLY_4K);

        if good {
            Ok(sizes)
        } else {
            Err(EINVAL)
        }
    }

    /// The leaf sizes that every domain has.
    pub(crate) fn supported(&self) -> PageSizes {
        let pages = PageSizes::from_bits(!0xfff);

        self.domains
            .iter()
            .fold(pages, |sizes, domain| sizes.intersect(domain.sizes()))
    }

    /// Gives what is mapped in `range` the leaves that `policy` gives; and what lies around it, as
    /// far as leaves may now reach across the range's ends.
    fn convert(&self, policy: &Policy, range: IovaRange) -> Result {
        for mapping in self.mappings.overlapping(range) {
            for segment in policy.segments(mapping.range) {
                let sizes = segment.sizes.intersect(self.supported());
                let Some(part) = reach(range, segment.range, sizes) else {
                    continue;
                };
                for domain in &self.domains {
                    convert_part(domain, policy, part, segment)?;
                }
            }
        }
        Ok(())
    }
}

/// Gives `part`, which is of one mapping and of `segment`, the leaves of the segment.
fn convert_part(domain: &Domain, policy: &Policy, part: IovaRange, segment: Segment) -> Result {
    let table = domain.table().ok_or(EOPNOTSUPP)?;
    let mut conversion = Conversion::new(part, segment.sizes);

    cut_ends(&table, policy, part, segment.sizes)?;
    while table.edit(|editor| conversion.step(editor, WORK))? == Progress::More {
        give_way()?;
    }
    give_way()
}

/// Sees to it that no leaf crosses an end of `part`. What lies outside of it gets leaves that the
/// policy there allows.
fn cut_ends(table: &PageTable<'_>, policy: &Policy, part: IovaRange, sizes: PageSizes) -> Result {
    let outside = |iova: Option<Iova>| iova.map_or(PageSizes::ALL, |iova| policy.at(iova).sizes);
    let (before, behind) = (part.start().before(), part.last().next());
    let (left, right) = (outside(before), outside(behind));

    // One leaf may cross both.
    let leaf = table.view().leaf_at(part.start());
    if leaf.is_some_and(|leaf| leaf.range().covers(part) && leaf.range() != part) {
        return table.edit(|editor| editor.carve(part, sizes, left.intersect(right)));
    }
    table.edit(|editor| editor.cut(part.start(), left, sizes))?;
    match behind {
        Some(behind) => table.edit(|editor| editor.cut(behind, sizes, right)),
        None => Ok(()),
    }
}
