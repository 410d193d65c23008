// SPDX-License-Identifier: GPL-2.0

//! A policy agrees with a list of the rules of all cells, after any sequence of changes.

use kernel::prelude::*;
use proptest::prelude::*;

use crate::pgtable::{
    Iova,
    IovaRange,
    PageSize,
    PageSizes,
    PAGE_BYTES, //
};
use crate::policy::{
    Merging,
    Policy,
    Rule,
    Segment,
    MAX_RANGES, //
};

use super::cells::{
    self,
    Cells, //
};
use super::until_memory_suffices;

const SIZES_2M: PageSizes = PageSizes::ONLY_4K.union(PageSizes::only(PageSize::SIZE_2M));

/// Rules that differ in one property each.
const RULES: [Rule; 4] = [
    Rule::ANY,
    Rule {
        sizes: SIZES_2M,
        ..Rule::ANY
    },
    Rule {
        split: true,
        sizes: SIZES_2M,
        ..Rule::ANY
    },
    Rule {
        split: true,
        merge: true,
        sizes: SIZES_2M,
    },
];

/// The rule of each cell that has its own, and the rule of the others.
struct Model {
    cells: Cells,
    own: Vec<Option<Rule>>,
    rule: Rule,
}

impl Model {
    fn new() -> Self {
        let cells = Cells::pages(6);

        Self {
            own: vec![None; cells.count()],
            cells,
            rule: Rule::ANY,
        }
    }

    fn effective(&self, cell: usize) -> Rule {
        self.own[cell].unwrap_or(self.rule)
    }

    fn all(&self) -> cells::Span {
        0..=self.own.len() - 1
    }

    fn segment(&self, run: &cells::Span) -> Segment {
        Segment {
            range: self.cells.range(run),
            rule: self.effective(*run.start()),
            inherited: self.own[*run.start()].is_none(),
        }
    }

    fn segments(&self, cells: &cells::Span) -> Vec<Segment> {
        let runs = cells::runs(cells, |cell| self.effective(cell));

        runs.iter().map(|run| self.segment(run)).collect()
    }

    /// The segments where the container's policy holds.
    fn inherited(&self, cells: &cells::Span) -> Vec<Segment> {
        let runs = cells::runs(cells, |cell| self.own[cell]);
        let own = |run: &&cells::Span| self.own[*run.start()].is_none();

        runs.iter()
            .filter(own)
            .map(|run| self.segment(run))
            .collect()
    }

    fn check(&self, policy: &Policy) {
        let own = cells::runs(&self.all(), |cell| self.own[cell]);
        let specials = own.iter().filter(|run| self.own[*run.start()].is_some());
        assert_eq!(policy.ranges(), specials.count());
        assert_eq!(policy.rule(), self.rule);
        let mut rules = self.own.iter().flatten().chain([&self.rule]);
        assert_eq!(policy.follows(), rules.any(Rule::follows));

        for run in &own {
            for iova in run.clone().flat_map(|cell| self.cells.probes(cell)) {
                assert_eq!(policy.at(iova), self.segment(run), "at {iova:?}");
            }
        }
        for some in self.cells.all() {
            let range = self.cells.range(&some);
            let segments = self.segments(&some);
            assert!(policy.segments(range).eq(segments.iter().copied()));
            assert!(policy.inherited(range).eq(self.inherited(&some)));
            for cell in some.clone() {
                let left = self.segments(&(cell..=*some.end()))[0];
                for iova in self
                    .cells
                    .probes(cell)
                    .filter(|iova| iova.is_aligned(PageSize::SIZE_4K))
                {
                    assert_eq!(policy.segment_at(iova, range).rule, left.rule);
                }
                let iova = Iova::new(self.cells.first(cell));
                assert_eq!(policy.segment_at(iova, range), left);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Container(Rule),
    Range(cells::Span, Option<Rule>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let rule = || prop::sample::select(&RULES);
    let some = Model::new().cells.any();
    let op = prop_oneof![
        1 => rule().prop_map(Op::Container),
        6 => (some, prop::option::weighted(0.7, rule())).prop_map(|(some, rule)| Op::Range(some, rule)),
    ];

    prop::collection::vec(op, 1..16)
}

proptest! {
    #[test]
    fn policy_is_what_was_set_last(ops in ops()) {
        let mut model = Model::new();
        let mut policy = Policy::any_size();
        model.check(&policy);

        for op in ops {
            let change = |policy: &mut &Policy| match &op {
                Op::Container(rule) => policy.with_rule(*rule),
                Op::Range(some, rule) => policy.with_range(model.cells.range(some), *rule),
            };
            let (_, changed) = until_memory_suffices(1, || &policy, change, |policy| model.check(policy));
            policy = changed.expect("a policy");
            match op {
                Op::Container(rule) => model.rule = rule,
                Op::Range(some, rule) => model.own[some].fill(rule),
            }
            model.check(&policy);
        }
    }
}

/// The page with this number, from the first one on. Every second page of the first 2048 has its
/// own policy: the maximum number.
fn page(number: u64) -> IovaRange {
    let start = Iova::new(number * PAGE_BYTES);

    IovaRange::with_len(start, PAGE_BYTES).expect("a page")
}

fn full() -> Policy {
    let mut policy = Policy::any_size();

    for number in 0..MAX_RANGES as u64 {
        let range = page(2 * number);
        policy = policy.with_range(range, Some(RULES[1])).expect("room");
    }
    policy
}

#[test]
fn ranges_of_their_own_are_so_many() {
    let policy = full();
    let last = 2 * (MAX_RANGES as u64 - 1);
    let with = |range, rule| policy.with_range(range, rule).map(|policy| policy.ranges());

    assert_eq!(policy.ranges(), MAX_RANGES);
    // One more, at the end or in a gap.
    assert_eq!(with(page(last + 2), Some(RULES[1])), Err(ENOSPC));
    assert_eq!(with(page(1), Some(RULES[2])), Err(ENOSPC));
    // Changes that join two ranges, remove one, or change one.
    assert_eq!(with(page(1), Some(RULES[1])), Ok(MAX_RANGES - 1));
    assert_eq!(with(page(0), None), Ok(MAX_RANGES - 1));
    assert_eq!(with(page(2), Some(RULES[2])), Ok(MAX_RANGES));
    assert_eq!(with(page(last + 1), Some(RULES[1])), Ok(MAX_RANGES));
    assert_eq!(with(page(1), None), Ok(MAX_RANGES));
    assert_eq!(with(IovaRange::ALL, Some(RULES[2])), Ok(1));
    assert_eq!(with(IovaRange::ALL, None), Ok(0));
    assert_eq!(
        policy.with_rule(RULES[3]).map(|policy| policy.ranges()),
        Ok(MAX_RANGES)
    );
    // Unchanged.
    for number in 0..=last {
        let segment = policy.at(page(number).start());
        assert_eq!(segment.inherited, number % 2 == 1);
        assert_eq!(segment.range, page(number));
    }
}

#[test]
fn hole_in_a_range_can_be_one_too_many() {
    let joined = full().with_range(page(1), Some(RULES[1])).expect("room");
    let full = joined
        .with_range(page(1 << 20), Some(RULES[1]))
        .expect("room");

    assert_eq!(full.ranges(), MAX_RANGES);
    for rule in [None, Some(RULES[2])] {
        assert_eq!(full.with_range(page(1), rule).err(), Some(ENOSPC));
    }
    let rest = joined
        .with_range(page(1), None)
        .map(|policy| policy.ranges());
    assert_eq!(rest, Ok(MAX_RANGES));
}

#[test]
fn rule_follows_with_large_sizes_alone() {
    for bits in 0..1u64 << 12 {
        // Sizes of 4K and from 512K to 1G.
        let lg2s = (19..=30).filter(|lg2| bits & (1 << (lg2 - 19)) != 0);
        let lg2s: Vec<u8> = [12].into_iter().chain(lg2s).collect();
        let sizes = lg2s.iter().fold(0, |sizes, lg2| sizes | (1u64 << lg2));
        for (split, merge) in [(false, false), (true, false), (true, true)] {
            let rule = Rule {
                sizes: PageSizes::from_bits(sizes),
                split,
                merge,
            };
            assert_eq!(rule.follows(), split && lg2s.iter().any(|lg2| *lg2 >= 21));
            let merging = match (lg2s.contains(&21), merge) {
                (false, _) => Merging::Never,
                (true, false) => Merging::WhenUndone,
                (true, true) => Merging::WhenWhole,
            };
            assert_eq!(rule.merging(), merging);
        }
    }
}

/// With no sizes but some, and, of what follows, with none that the hook makes.
#[test]
fn other_rules_everywhere() {
    let page = |number: u64| IovaRange::block(Iova::new(number * PAGE_BYTES), PageSize::SIZE_4K);
    let mut policy = Policy::any_size();
    for (number, rule) in (0u64..).zip(RULES) {
        policy = policy.with_range(page(number), Some(rule)).unwrap();
    }
    let rules = |policy: &Policy| {
        let at = |number: u64| policy.at(page(number).start()).rule;
        (0..5).map(at).collect::<Vec<_>>()
    };

    for sizes in [PageSizes::NONE, PageSizes::ONLY_4K, SIZES_2M] {
        let limited = policy.limited(sizes).unwrap();
        for (was, is) in rules(&policy).into_iter().zip(rules(&limited)) {
            let more = match was.follows() {
                true => PageSizes::ONLY_4K,
                false => sizes.union(PageSizes::ONLY_4K),
            };
            let sizes = was.sizes.intersect(more);
            assert_eq!(is, Rule { sizes, ..was });
            assert!(!is.follows());
        }
    }
    // The first two are alike, and so are the last two but for what they do when whole.
    let small = policy.limited(PageSizes::ONLY_4K).unwrap();
    assert_eq!(small.ranges(), 3);
    assert!(!small.follows());

    let settled = policy.never_merging().unwrap();
    for (was, is) in rules(&policy).into_iter().zip(rules(&settled)) {
        assert_eq!(was.follows(), is.follows());
        assert!(!is.follows() || is.merging() == Merging::Never);
    }
}
