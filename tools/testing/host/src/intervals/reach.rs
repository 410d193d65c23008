// SPDX-License-Identifier: GPL-2.0

//! The reach of a policy change: it contains every leaf that overlaps the range, if memory allows
//! the largest leaves.

use crate::pgtable::{
    Iova,
    IovaRange,
    PageSizes,
    PAGE_BYTES, //
};
use crate::policy::reach;

/// Number of pages in the test.
const PAGES: u64 = 16;

/// The leaves, in pages, of the pages from `first` to `last`.
fn leaves(first: u64, last: u64, sizes: u64) -> Vec<(u64, u64)> {
    let mut leaves = Vec::new();
    let mut next = first;

    while next <= last {
        let fits = |lg2: &u32| {
            let pages = 1 << lg2;
            sizes & pages != 0 && next % pages == 0 && next + pages - 1 <= last
        };
        let pages = (1..=PAGES.ilog2())
            .rev()
            .find(fits)
            .map_or(1, |lg2| 1 << lg2);
        leaves.push((next, next + pages - 1));
        next += pages;
    }
    leaves
}

fn spans() -> impl Iterator<Item = (u64, u64)> {
    (0..PAGES).flat_map(|first| (first..PAGES).map(move |last| (first, last)))
}

fn range(base: u64, (first, last): (u64, u64)) -> IovaRange {
    let start = Iova::new(base + first * PAGE_BYTES);
    let last = Iova::new(base + last * PAGE_BYTES + (PAGE_BYTES - 1));

    IovaRange::new(start, last).expect("whole pages")
}

/// All ranges, bounds and sets of sizes up to 64K.
fn check(base: u64) {
    for sizes in 0..1 << (PAGES.ilog2() + 1) {
        for bounds in spans() {
            let leaves = leaves(bounds.0, bounds.1, sizes);
            for changed in spans() {
                let touched = |leaf: &&(u64, u64)| leaf.0 <= changed.1 && changed.0 <= leaf.1;
                let touched: Vec<_> = leaves.iter().filter(touched).collect();
                let wanted = match (touched.first(), touched.last()) {
                    (Some(first), Some(last)) => Some(range(base, (first.0, last.1))),
                    _ => None,
                };
                let sizes = PageSizes::from_bits(sizes * PAGE_BYTES);
                let found = reach(range(base, changed), range(base, bounds), sizes);
                assert_eq!(found, wanted, "{changed:?} in {bounds:?}, {sizes:?}");
            }
        }
    }
}

#[test]
fn change_reaches_over_the_leaves_that_it_touches() {
    check(0);
    check((PAGES * PAGE_BYTES).wrapping_neg());
}

#[test]
fn change_of_nothing_mapped_reaches_nothing() {
    let (low, high) = (range(0, (0, 3)), range(0, (4, 4)));

    assert_eq!(reach(low, high, PageSizes::ALL), None);
    assert_eq!(reach(high, low, PageSizes::ALL), None);
}

#[test]
fn all_addresses_are_no_block() {
    let all = IovaRange::ALL;
    let bounds = range(0, (1, 5));

    assert_eq!(reach(all, all, PageSizes::ALL), Some(all));
    assert_eq!(reach(all, bounds, PageSizes::ALL), Some(bounds));
    // The largest block, of 2^63 bytes.
    let half = IovaRange::new(Iova::ZERO, Iova::new((1 << 63) - 1));
    assert_eq!(reach(bounds, all, PageSizes::ALL), half);
    assert_eq!(reach(bounds, all, PageSizes::NONE), Some(bounds));
}
