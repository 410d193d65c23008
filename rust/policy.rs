// SPDX-License-Identifier: GPL-2.0

//! Policies: the allowed leaf sizes of IOVA ranges, and whether leaves follow the RMP.
//!
//! A policy is immutable. A change creates a new one, which replaces the old one at the end of the
//! change.

use kernel::prelude::*;

use crate::pgtable::{
    Iova,
    IovaRange,
    PageSize,
    PageSizes, //
};

/// Maximum number of ranges with a policy of their own.
pub(crate) const MAX_RANGES: usize = 1024;

/// The policy of one IOVA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Allowed leaf sizes.
    pub(crate) sizes: PageSizes,
    /// Split the leaf when its RMP entry is smashed.
    pub(crate) split: bool,
    /// Merge it when the RMP entry is whole again. Requires `split`.
    pub(crate) merge: bool,
}

impl Rule {
    /// Any size; does not follow the RMP.
    pub(crate) const ANY: Self = Self {
        sizes: PageSizes::ALL,
        split: false,
        merge: false,
    };

    /// Whether the rule needs the hook: leaves of 2M and more follow the RMP. 4K leaves agree with
    /// any RMP entry.
    pub(crate) fn follows(&self) -> bool {
        self.split && self.sizes != self.sizes.below(PageSize::SIZE_2M)
    }

    /// When 2M leaves return.
    pub(crate) fn merging(&self) -> Merging {
        match self.sizes.allows(PageSize::SIZE_2M) {
            false => Merging::Never,
            true if self.merge => Merging::WhenWhole,
            true => Merging::WhenUndone,
        }
    }
}

/// When a followed block of small leaves becomes a 2M leaf again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merging {
    /// Never: 2M is not allowed.
    Never,
    /// If an RMP change for which it got small leaves did not break the block.
    WhenUndone,
    /// Also when the RMP entry is whole again.
    WhenWhole,
}

/// A range with its own policy.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Special {
    range: IovaRange,
    rule: Rule,
}

/// An IOVA range with one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The range.
    pub(crate) range: IovaRange,
    /// Its policy.
    pub(crate) rule: Rule,
    /// The policy is inherited from the container.
    pub(crate) inherited: bool,
}

/// The policy of a container.
///
/// # Invariants
///
/// `specials` are in ascending order and disjoint. Adjacent ones differ. There are at most
/// [`MAX_RANGES`].
pub(crate) struct Policy {
    /// Where no range has its own policy.
    rule: Rule,
    specials: KVVec<Special>,
}

impl Policy {
    /// Any size for all IOVAs.
    pub(crate) const fn any_size() -> Self {
        Self {
            rule: Rule::ANY,
            specials: KVVec::new(),
        }
    }

    /// The policy of the container.
    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// Whether any leaf follows the RMP.
    pub(crate) fn follows(&self) -> bool {
        self.rule.follows() || self.specials.iter().any(|special| special.rule.follows())
    }

    /// Number of ranges with their own policy.
    pub(crate) fn ranges(&self) -> usize {
        self.specials.len()
    }

    /// This policy, with `rule` for the container. Fails with `ENOMEM`.
    pub(crate) fn with_rule(&self, rule: Rule) -> Result<Self> {
        let mut specials = KVVec::new();

        specials.extend_from_slice(&self.specials, GFP_KERNEL_ACCOUNT)?;
        // INVARIANT: Unchanged.
        Ok(Self { rule, specials })
    }

    /// This policy, with no leaf sizes but `sizes` and 4K, and 4K alone where leaves follow the RMP: the
    /// hook changes large leaves under a lock that dirty tracking does not take.
    pub(crate) fn limited(&self, sizes: PageSizes) -> Result<Self> {
        self.with_rules(|rule| {
            let more = match rule.follows() {
                true => PageSizes::ONLY_4K,
                false => sizes.union(PageSizes::ONLY_4K),
            };
            Rule {
                sizes: rule.sizes.intersect(more),
                ..rule
            }
        })
    }

    /// A policy by which the same ranges follow the RMP, and the hook never merges.
    pub(crate) fn never_merging(&self) -> Result<Self> {
        self.with_rules(|rule| Rule {
            sizes: match rule.follows() {
                // Only rules with sizes of 2M or more follow, and only 2M is merged to.
                true => PageSizes::only(PageSize::SIZE_1G).union(PageSizes::ONLY_4K),
                false => rule.sizes,
            },
            ..rule
        })
    }

    /// This policy, with each rule replaced by `change(rule)`.
    fn with_rules(&self, change: impl Fn(Rule) -> Rule) -> Result<Self> {
        let mut specials = KVVec::with_capacity(self.specials.len(), GFP_KERNEL_ACCOUNT)?;

        // INVARIANT: The ranges are unchanged, and `append` joins equal neighbours.
        for special in &self.specials {
            let rule = change(special.rule);
            append(&mut specials, Special { rule, ..*special })?;
        }
        Ok(Self {
            rule: change(self.rule),
            specials,
        })
    }

    /// This policy, with `rule` for `range`. `None`: the range inherits.
    ///
    /// Fails with `ENOSPC` if there are more than [`MAX_RANGES`], and with `ENOMEM`.
    pub(crate) fn with_range(&self, range: IovaRange, rule: Option<Rule>) -> Result<Self> {
        // At most one range is split in two, and one is added.
        let room = self.specials.len().saturating_add(2);
        let mut specials = KVVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?;
        let before = range.start().before();
        let behind = range.last().next();
        let parts = |special: &Special| {
            let rule = special.rule;
            let part = |range: Option<IovaRange>| range.map(|range| Special { range, rule });
            let left = before.and_then(|last| {
                IovaRange::new(special.range.start(), last.min(special.range.last()))
            });
            let right = behind.and_then(|start| special.range.from(start));
            [part(left), part(right)]
        };

        // INVARIANT: In ascending order: what lies before the range, the range, what lies behind.
        for left in self.specials.iter().filter_map(|special| parts(special)[0]) {
            append(&mut specials, left)?;
        }
        if let Some(rule) = rule {
            append(&mut specials, Special { range, rule })?;
        }
        for right in self.specials.iter().filter_map(|special| parts(special)[1]) {
            append(&mut specials, right)?;
        }
        if specials.len() > MAX_RANGES {
            return Err(ENOSPC);
        }
        Ok(Self {
            rule: self.rule,
            specials,
        })
    }

    /// The segment that contains `iova`, in full.
    pub(crate) fn at(&self, iova: Iova) -> Segment {
        let next = self.first_from(iova);
        let found = self.specials.get(next);

        if let Some(special) = found.filter(|special| special.range.contains(iova)) {
            return Segment {
                range: special.range,
                rule: special.rule,
                inherited: false,
            };
        }
        let start = next
            .checked_sub(1)
            .and_then(|index| self.specials.get(index)?.range.last().next())
            .unwrap_or(Iova::ZERO);
        let last = found
            .and_then(|special| special.range.start().before())
            .unwrap_or(Iova::MAX);
        Segment {
            range: IovaRange::new(start, last).unwrap_or(IovaRange::ALL),
            rule: self.rule,
            inherited: true,
        }
    }

    /// The segments of `range`, in ascending order, clipped to it. Adjacent ones differ in `rule`
    /// or `inherited`.
    fn pieces(&self, range: IovaRange) -> impl Iterator<Item = Segment> + '_ {
        let mut left = Some(range);

        core::iter::from_fn(move || {
            let todo = left?;
            let found = self.at(todo.start());
            let range = found.range.intersect(todo)?;
            left = todo.behind(range.last());
            Some(Segment { range, ..found })
        })
    }

    /// The segments of `range`, in ascending order, clipped to it. Adjacent ones differ in `rule`.
    pub(crate) fn segments(&self, range: IovaRange) -> impl Iterator<Item = Segment> + '_ {
        let mut pieces = self.pieces(range).peekable();

        core::iter::from_fn(move || {
            let mut segment = pieces.next()?;
            while let Some(next) = pieces.next_if(|next| next.rule == segment.rule) {
                segment.range = segment.range.hull(next.range);
            }
            Some(segment)
        })
    }

    /// The segment of `range` that contains `iova`, from `iova` on. `iova` is in the range.
    pub(crate) fn segment_at(&self, iova: Iova, range: IovaRange) -> Segment {
        let here = range.from(iova).unwrap_or(range);

        self.segments(here).next().unwrap_or(Segment {
            range: here,
            rule: self.rule,
            inherited: true,
        })
    }

    /// The segments of `range` that inherit, in ascending order, clipped to it.
    pub(crate) fn inherited(&self, range: IovaRange) -> impl Iterator<Item = Segment> + '_ {
        self.pieces(range).filter(|piece| piece.inherited)
    }

    /// The index of the first special that ends at `iova` or later.
    fn first_from(&self, iova: Iova) -> usize {
        self.specials
            .partition_point(|special| special.range.last() < iova)
    }
}

/// Appends `special`, which lies behind all others. Extends the last one if they are adjacent and
/// equal.
fn append(specials: &mut KVVec<Special>, special: Special) -> Result {
    match specials.last_mut() {
        Some(last)
            if last.rule == special.rule
                && last.range.last().next() == Some(special.range.start()) =>
        {
            last.range = last.range.hull(special.range);
            Ok(())
        }
        _ => Ok(specials.push(special, GFP_KERNEL_ACCOUNT)?),
    }
}

/// The part of `bounds` whose leaves may change when the policy of `range` changes from or to
/// `sizes`: every leaf that changes overlaps the range and is no larger than a block that fits in
/// the bounds. `None` if the range does not overlap `bounds`.
pub(crate) fn reach(range: IovaRange, bounds: IovaRange, sizes: PageSizes) -> Option<IovaRange> {
    let inner = range.intersect(bounds)?;
    let block_at = |iova: Iova| {
        let mut allowed = sizes;
        while let Some(size) = allowed.largest() {
            let block = IovaRange::block(iova, size);
            if bounds.covers(block) {
                return block;
            }
            allowed = allowed.below(size);
        }
        IovaRange::block(iova, PageSize::SIZE_4K)
    };

    Some(
        inner
            .hull(block_at(inner.start()))
            .hull(block_at(inner.last())),
    )
}
