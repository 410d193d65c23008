// SPDX-License-Identifier: GPL-2.0

//! Which leaf sizes are allowed where, and whether leaves follow the RMP.
//!
//! A policy is a value: to change it is to make a new one, which takes the old one's place when all
//! that follows from it is done.

use kernel::prelude::*;

use crate::pgtable::{
    Iova,
    IovaRange,
    PageSize,
    PageSizes, //
};

/// How many ranges can have a policy of their own.
pub(crate) const MAX_RANGES: usize = 1024;

/// What holds for a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The sizes that it can have.
    pub(crate) sizes: PageSizes,
    /// It is split when the RMP entry under it is smashed.
    pub(crate) split: bool,
    /// It is merged again when the RMP entry is whole. Only with `split`.
    pub(crate) merge: bool,
}

impl Rule {
    /// Any size, whatever the RMP says.
    pub(crate) const ANY: Self = Self {
        sizes: PageSizes::ALL,
        split: false,
        merge: false,
    };

    /// Whether there are leaves of this rule that a smash can be of concern to: of 2M at least. A
    /// smaller leaf is checked 4K by 4K.
    pub(crate) fn follows(&self) -> bool {
        self.split && self.sizes != self.sizes.below(PageSize::SIZE_2M)
    }

    /// When leaves of 2M come back.
    pub(crate) fn merging(&self) -> Merging {
        match self.sizes.allows(PageSize::SIZE_2M) {
            false => Merging::Never,
            true if self.merge => Merging::WhenWhole,
            true => Merging::WhenUndone,
        }
    }
}

/// When a followed block that has small leaves gets one of 2M again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merging {
    /// No such leaf is allowed.
    Never,
    /// If it was split, or mapped with small leaves, for a call that broke nothing.
    WhenUndone,
    /// And when the RMP entry is whole again.
    WhenWhole,
}

/// A range with a policy of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Special {
    range: IovaRange,
    rule: Rule,
}

/// A range of IOVAs with one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) range: IovaRange,
    pub(crate) rule: Rule,
    /// It is the container's policy.
    pub(crate) inherited: bool,
}

/// The policy of a container.
///
/// # Invariants
///
/// `specials` are in rising order and apart from each other; those that touch differ; there are
/// [`MAX_RANGES`] at most.
pub(crate) struct Policy {
    /// The container's, where no range has its own.
    rule: Rule,
    specials: KVVec<Special>,
}

impl Policy {
    /// Any size, everywhere.
    pub(crate) const fn any_size() -> Self {
        Self {
            rule: Rule::ANY,
            specials: KVVec::new(),
        }
    }

    /// The container's.
    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// Whether leaves follow the RMP anywhere.
    pub(crate) fn follows(&self) -> bool {
        self.rule.follows() || self.specials.iter().any(|special| special.rule.follows())
    }

    /// How many ranges have their own.
    pub(crate) fn ranges(&self) -> usize {
        self.specials.len()
    }

    /// This policy with `rule` for the container.
    pub(crate) fn with_rule(&self, rule: Rule) -> Result<Self> {
        let mut specials = KVVec::new();

        specials.extend_from_slice(&self.specials, GFP_KERNEL_ACCOUNT)?;
        // INVARIANT: As they were.
        Ok(Self { rule, specials })
    }

    /// This policy with `rule` for `range`, or, if `None`, with the container's there.
    ///
    /// Fails with `ENOSPC` if that were too many ranges.
    pub(crate) fn with_range(&self, range: IovaRange, rule: Option<Rule>) -> Result<Self> {
        // One may be split in two, and one may be added.
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

        // INVARIANT: First what lies before the range, then the range, then what lies behind.
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

    /// What holds at `iova`, and how far around.
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

    /// The segments of `range`, in rising order, cut to it. Neighbours differ, in rule or in where
    /// they have them from.
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

    /// The segments of `range`, in rising order, cut to it. Neighbours differ in their rules.
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

    /// The segment of `range` that holds `iova`, which is in the range.
    pub(crate) fn segment_at(&self, iova: Iova, range: IovaRange) -> Segment {
        let here = range.from(iova).unwrap_or(range);

        self.segments(here).next().unwrap_or(Segment {
            range: here,
            rule: self.rule,
            inherited: true,
        })
    }

    /// The segments of `range` where the container's policy holds.
    pub(crate) fn inherited(&self, range: IovaRange) -> impl Iterator<Item = Segment> + '_ {
        self.pieces(range).filter(|piece| piece.inherited)
    }

    /// The index of the first special that ends at `iova` or later.
    fn first_from(&self, iova: Iova) -> usize {
        self.specials
            .partition_point(|special| special.range.last() < iova)
    }
}

/// Adds `special`, which lies behind all others; one that touches it and is alike grows instead.
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

/// Within `bounds`, all that a fresh map would do otherwise if the policy changed in `range`, which
/// touches `bounds`, from or to `sizes`: a leaf that changes has an address of `range`, and is no
/// larger than a block that fits.
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
