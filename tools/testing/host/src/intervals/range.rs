// SPDX-License-Identifier: GPL-2.0

//! Ranges as sets of cells, for all pairs of ranges.

use crate::pgtable::{
    Iova,
    IovaRange, //
};

use super::cells::{
    Cells,
    Span, //
};

/// The range of the cells in `set`, which are adjacent.
fn range_of(cells: &Cells, set: impl Fn(usize) -> bool) -> Option<IovaRange> {
    let first = (0..cells.count()).find(|cell| set(*cell))?;
    let last = (0..cells.count()).rfind(|cell| set(*cell))?;

    assert!((first..=last).all(set), "a gap");
    Some(cells.range(&(first..=last)))
}

#[test]
fn two_ranges_are_two_sets() {
    let cells = Cells::pages(4);
    let union =
        |one: &Span, other: &Span| *one.start().min(other.start())..=*one.end().max(other.end());

    for one in cells.all() {
        for other in cells.all() {
            let (a, b) = (cells.range(&one), cells.range(&other));
            let both = range_of(&cells, |cell| one.contains(&cell) && other.contains(&cell));
            assert_eq!(a.intersect(b), both);
            assert_eq!(a.hull(b), cells.range(&union(&one, &other)));
            assert_eq!(a.covers(b), other.clone().all(|cell| one.contains(&cell)));
        }
    }
}

#[test]
fn range_is_cut_at_any_cell() {
    let cells = Cells::pages(4);

    for some in cells.all() {
        let range = cells.range(&some);
        for at in 0..cells.count() {
            let from = range_of(&cells, |cell| some.contains(&cell) && cell >= at);
            let behind = range_of(&cells, |cell| some.contains(&cell) && cell > at);
            assert_eq!(range.from(Iova::new(cells.first(at))), from);
            assert_eq!(range.behind(Iova::new(cells.last(at))), behind);
            let holds = |iova| range.contains(iova) == some.contains(&at);
            assert!(cells.probes(at).all(holds));
        }
    }
}

#[test]
fn range_has_the_length_of_its_cells() {
    let cells = Cells::pages(4);

    for some in cells.all() {
        let range = cells.range(&some);
        let bytes = |cell| u128::from(cells.last(cell)) + 1 - u128::from(cells.first(cell));
        let bytes: u128 = some.clone().map(bytes).sum();
        assert_eq!(range.bytes(), u64::try_from(bytes).ok());
        assert_eq!(u128::from(range.pages()), bytes / 4096);
        if let Some(bytes) = range.bytes() {
            assert_eq!(IovaRange::with_len(range.start(), bytes), Some(range));
        }
    }
}
