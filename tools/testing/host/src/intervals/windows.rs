// SPDX-License-Identifier: GPL-2.0

//! Windows are the cells that are in every aperture and in no hole.

use kernel::prelude::*;
use proptest::prelude::*;

use crate::iommu::windows::{
    Span,
    Windows, //
};
use crate::pgtable::Iova;

use super::cells::{
    self,
    Cells, //
};
use super::until_memory_suffices;

/// The usable cells.
struct Model {
    cells: Cells,
    usable: Vec<bool>,
}

impl Model {
    fn new() -> Self {
        let cells = Cells::bytes(3);

        Self {
            usable: vec![true; cells.count()],
            cells,
        }
    }

    fn span(&self, some: &cells::Span) -> Span {
        Span {
            start: Iova::new(self.cells.first(*some.start())),
            last: Iova::new(self.cells.last(*some.end())),
        }
    }

    fn spans(&self) -> Vec<Span> {
        let runs = cells::runs(&(0..=self.usable.len() - 1), |cell| self.usable[cell]);
        let usable = runs.iter().filter(|run| self.usable[*run.start()]);

        usable.map(|run| self.span(run)).collect()
    }

    fn check(&self, windows: &Windows) {
        assert_eq!(windows.as_slice(), self.spans());
        for some in self.cells.all() {
            if let Some(range) = self.cells.try_range(&some) {
                let usable = some.clone().all(|cell| self.usable[cell]);
                assert_eq!(windows.admit(range), usable, "{range:?}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Confine(cells::Span),
    Exclude(cells::Span),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let some = Model::new().cells.any();
    let count = Model::new().cells.count();
    let most = (0..4usize, 0..4usize).prop_map(move |(low, high)| low..=count - 1 - high);
    let op = prop_oneof![
        1 => most.prop_map(Op::Confine),
        4 => some.prop_map(Op::Exclude),
    ];

    prop::collection::vec(op, 1..10)
}

/// The windows after `ops`.
fn after(model: &Model, ops: &[Op]) -> Windows {
    let mut windows = Windows::everything().expect("memory");

    for op in ops {
        apply(model, &mut windows, op).expect("memory");
    }
    windows
}

fn apply(model: &Model, windows: &mut Windows, op: &Op) -> Result {
    match op {
        Op::Confine(some) => windows.confine(model.span(some)),
        Op::Exclude(some) => windows.exclude(model.span(some)),
    }
}

proptest! {
    #[test]
    fn windows_are_what_is_left(ops in ops()) {
        let mut model = Model::new();
        model.check(&after(&model, &[]));

        for (done, op) in ops.iter().enumerate() {
            let before = || after(&model, &ops[..done]);
            let failed = |windows: &Windows| match op {
                Op::Exclude(_) => model.check(windows),
                // One side may be cut off already.
                Op::Confine(_) => {}
            };
            let change = |windows: &mut Windows| apply(&model, windows, op);
            let most = if matches!(op, Op::Confine(_)) { 2 } else { 1 };
            let (windows, result) = until_memory_suffices(most, before, change, failed);
            prop_assert_eq!(result, Ok(()));
            for (cell, usable) in model.usable.iter_mut().enumerate() {
                *usable &= match op {
                    Op::Confine(some) => some.contains(&cell),
                    Op::Exclude(some) => !some.contains(&cell),
                };
            }
            model.check(&windows);
        }
    }
}

#[test]
fn there_may_be_no_window() {
    let mut model = Model::new();
    let all = 0..=model.cells.count() - 1;
    model.usable.fill(false);

    model.check(&Windows::none());
    model.check(&after(&model, &[Op::Exclude(all.clone())]));
    let low = Op::Confine(0..=0);
    model.check(&after(&model, &[low.clone(), Op::Confine(1..=1)]));
    model.check(&after(&model, &[low, Op::Exclude(0..=0), Op::Exclude(all)]));
}

#[test]
fn windows_are_nothing_without_memory() {
    let none = kernel::alloc::with_allocations(0, Windows::everything);

    assert_eq!(none.err(), Some(ENOMEM));
}

#[test]
fn span_ends_where_addresses_do() {
    let values = [0, 1, 2, 0xfff, 0x1000, u64::MAX - 1, u64::MAX];

    for start in values {
        for other in values {
            let span = Span::new(start, other);
            let wanted = Span {
                start: Iova::new(start),
                last: Iova::new(other),
            };
            assert_eq!(span, (start <= other).then_some(wanted));

            let last = (u128::from(start) + u128::from(other)).checked_sub(1);
            let last = last.map_or(0, |last| last.min(u128::from(u64::MAX)) as u64);
            let wanted = Span::new(start, last).filter(|_| other != 0);
            assert_eq!(Span::with_len(start, other), wanted);
        }
    }
}
