// SPDX-License-Identifier: GPL-2.0

//! Mappings are found at each of their addresses, after any sequence of insertions, splits and
//! removals.

use kernel::alloc::with_allocations;
use std::sync::atomic::Ordering;

use kernel::prelude::*;
use kernel::sync::Arc;
use proptest::prelude::*;

use crate::container::claims::ClaimId;
use crate::container::mapping::{
    InProgress,
    Mapping,
    Mappings,
    NodeReservation,
    RemovedMappings, //
};
use crate::iommu::Access;
use crate::mm::Locked;
use crate::mm::UserAddr;
use crate::pgtable::{
    Iova,
    IovaRange, //
};

use super::cells::{
    self,
    Cells, //
};

/// The properties of a mapping that all of its parts have.
#[derive(Clone)]
struct Kind {
    /// The process address of IOVA 0.
    memory: UserAddr,
    access: Access,
    stateful: bool,
    mixed: bool,
    vaddr_invalid: bool,
    /// The claim of the map request in progress.
    claim: Option<ClaimId>,
    locked: Arc<Locked>,
}

impl Kind {
    /// The mapping with number `count`.
    fn new(count: u64, is_in_progress: bool) -> Self {
        Self {
            claim: is_in_progress.then_some(ClaimId(count)),
            memory: UserAddr(count << 32),
            access: Access(count as u8),
            stateful: count % 2 == 0,
            mixed: count % 3 == 0,
            vaddr_invalid: count % 5 == 0,
            locked: Arc::new(Locked::default()),
        }
    }

    fn mapping(&self, range: IovaRange) -> Mapping {
        Mapping {
            range,
            memory: self.memory_at(range.start()),
            access: self.access,
            stateful: self.stateful,
            mixed: self.mixed,
            vaddr_invalid: self.vaddr_invalid,
            in_progress: self.claim.map(|claim| InProgress {
                claim,
                joins: false,
                mapped: None,
            }),
            locked: self.locked.clone(),
        }
    }

    fn memory_at(&self, iova: Iova) -> UserAddr {
        self.memory.after(iova.get() / 4096)
    }
}

/// Mappings that do not overlap, in no order.
struct Model {
    cells: Cells,
    mappings: Vec<(cells::Span, Kind)>,
}

impl Model {
    fn new() -> Self {
        Self {
            cells: Cells::pages(5),
            mappings: Vec::new(),
        }
    }

    /// The index of the mapping that contains `cell`.
    fn at(&self, cell: usize) -> Option<usize> {
        self.mappings
            .iter()
            .position(|(span, _)| span.contains(&cell))
    }

    /// The mappings that overlap `some`, in ascending order.
    fn overlapping(&self, some: &cells::Span) -> Vec<usize> {
        let mut found: Vec<_> = some.clone().filter_map(|cell| self.at(cell)).collect();

        found.dedup();
        found
    }

    fn is(&self, found: &Mapping, index: usize) -> bool {
        let (span, kind) = &self.mappings[index];
        let wanted = kind.mapping(self.cells.range(span));

        found.range == wanted.range
            && found.memory == wanted.memory
            && found.access == wanted.access
            && found.stateful == wanted.stateful
            && found.mixed == wanted.mixed
            && found.vaddr_invalid == wanted.vaddr_invalid
            && found.in_progress.map(|in_progress| in_progress.claim) == kind.claim
            && found.mapped() == Some(wanted.range).filter(|_| kind.claim.is_none())
            && Arc::ptr_eq(&found.locked, &wanted.locked)
    }

    fn are(&self, found: Option<&Mapping>, index: Option<usize>) -> bool {
        match (found, index) {
            (Some(found), Some(index)) => self.is(found, index),
            (None, None) => true,
            _ => false,
        }
    }

    fn check(&self, mappings: &Mappings) {
        for cell in 0..self.cells.count() {
            let index = self.at(cell);
            for iova in self.cells.probes(cell) {
                let found = mappings.at(iova);
                assert!(self.are(found, index), "at {iova:?}");
                if let (Some(found), Some(index)) = (found, index) {
                    let memory = self.mappings[index].1.memory_at(iova);
                    assert_eq!(found.memory_at(iova), memory);
                }
            }
        }
        for some in self.cells.all() {
            let range = self.cells.range(&some);
            let wanted = self.overlapping(&some);
            let found: Vec<_> = mappings.overlapping(range).collect();
            assert_eq!(found.len(), wanted.len(), "in {range:?}");
            let mut pairs = found.iter().zip(&wanted);
            assert!(pairs.all(|(found, index)| self.is(found, *index)));
            assert!(self.are(mappings.first_in(range), wanted.first().copied()));

            let crosses = |index: &usize| {
                let (span, kind) = &self.mappings[*index];
                kind.claim.is_none() && !(some.contains(span.start()) && some.contains(span.end()))
            };
            assert_eq!(mappings.crosses_end_of(range), wanted.iter().any(crosses));
        }
    }

    fn insert(&mut self, mappings: &mut Mappings, some: cells::Span, kind: Kind) {
        if self.overlapping(&some).is_empty() {
            let reservation = NodeReservation::new().expect("memory");
            mappings.insert(reservation, kind.mapping(self.cells.range(&some)));
            self.mappings.push((some, kind));
        }
    }

    fn split_mapping(&mut self, mappings: &mut Mappings, cell: usize) {
        let at = Iova::new(self.cells.first(cell));
        let reservation = NodeReservation::new().expect("memory");
        let is_cut = mappings.split_mapping(at, reservation);

        let is_whole = |index: &usize| {
            let (span, kind) = &self.mappings[*index];
            *span.start() < cell && kind.claim.is_none()
        };
        let index = self.at(cell).filter(is_whole);
        assert_eq!(is_cut, index.is_some());
        if let Some(index) = index {
            let (span, kind) = self.mappings.swap_remove(index);
            self.mappings.push((*span.start()..=cell - 1, kind.clone()));
            self.mappings.push((cell..=*span.end(), kind));
        }
    }

    /// Completes the mapping that starts at `cell`, if it is in progress under `claim`.
    fn finish(&mut self, mappings: &mut Mappings, cell: usize, claim: ClaimId) {
        let found = mappings.in_progress_at(Iova::new(self.cells.first(cell)), claim);
        let is_it = |index: &usize| {
            let (span, kind) = &self.mappings[*index];
            *span.start() == cell && kind.claim == Some(claim)
        };
        let index = self.at(cell).filter(is_it);

        assert!(self.are(found.as_deref(), index));
        if let (Some(found), Some(index)) = (found, index) {
            found.in_progress = None;
            self.mappings[index].1.claim = None;
        }
    }

    /// Removes the first mapping that overlaps `some`.
    fn remove(&mut self, mappings: &mut Mappings, some: &cells::Span) {
        let Some(index) = self.overlapping(some).first().copied() else {
            return;
        };
        let range = self.cells.range(&self.mappings[index].0);
        let locked = self.mappings[index].1.locked.clone();
        let settled = locked.settled.load(Ordering::Relaxed);
        let mut others = Mappings::new();

        mappings.move_to(&mut others, range);
        assert!(self.are(others.first_in(IovaRange::ALL), Some(index)));
        self.mappings.swap_remove(index);
        self.check(mappings);

        let mut gone = RemovedMappings::none();
        gone.take(&mut others, range);
        assert!(others.first_in(IovaRange::ALL).is_none());
        assert_eq!(locked.settled.load(Ordering::Relaxed), settled);
        drop(gone);
        assert_eq!(locked.settled.load(Ordering::Relaxed), settled + 1);
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(cells::Span, bool),
    Cut(usize),
    Finish(usize, u64),
    Remove(cells::Span),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let some = || Model::new().cells.any();
    let cell = || 0..Model::new().cells.count();
    let op = prop_oneof![
        4 => (some(), prop::bool::weighted(0.3)).prop_map(|(some, in_progress)| Op::Insert(some, in_progress)),
        2 => cell().prop_map(Op::Cut),
        2 => (cell(), 1..6u64).prop_map(|(cell, claim)| Op::Finish(cell, claim)),
        1 => some().prop_map(Op::Remove),
    ];

    prop::collection::vec(op, 1..24)
}

proptest! {
    #[test]
    fn mappings_are_where_they_were_put(ops in ops()) {
        let mut model = Model::new();
        let mut mappings = Mappings::new();
        model.check(&mappings);

        for (op, count) in ops.into_iter().zip(1..) {
            match op {
                Op::Insert(some, in_progress) => {
                    model.insert(&mut mappings, some, Kind::new(count, in_progress));
                }
                Op::Cut(cell) => model.split_mapping(&mut mappings, cell),
                Op::Finish(cell, claim) => model.finish(&mut mappings, cell, ClaimId(claim)),
                Op::Remove(some) => model.remove(&mut mappings, &some),
            }
            model.check(&mappings);
        }
    }
}

#[test]
fn only_room_needs_memory() {
    assert_eq!(
        with_allocations(0, NodeReservation::new).err(),
        Some(ENOMEM)
    );

    let reservation = || NodeReservation::new().expect("memory");
    let (first, second) = (reservation(), reservation());
    let mut mappings = Mappings::new();
    let page = Iova::new(4096);
    with_allocations(0, || {
        mappings.insert(first, Kind::new(1, false).mapping(IovaRange::ALL));
        assert!(mappings.split_mapping(page, second));
    });
    assert_eq!(mappings.overlapping(IovaRange::ALL).count(), 2);
}

#[test]
fn mapping_of_all_addresses_is_cut_everywhere() {
    let mut model = Model::new();
    let mut mappings = Mappings::new();
    let all = 0..=model.cells.count() - 1;

    model.insert(&mut mappings, all.clone(), Kind::new(1, false));
    for cell in all.clone() {
        model.split_mapping(&mut mappings, cell);
        model.check(&mappings);
    }
    for _ in all.clone() {
        model.remove(&mut mappings, &all);
        model.check(&mappings);
    }
    assert!(mappings.first_in(IovaRange::ALL).is_none());
}

#[test]
fn what_is_being_made_is_its_makers() {
    let mut model = Model::new();
    let mut mappings = Mappings::new();
    let some = 1..=model.cells.count() - 2;

    model.insert(&mut mappings, some.clone(), Kind::new(1, true));
    model.check(&mappings);
    for cell in 0..model.cells.count() {
        model.split_mapping(&mut mappings, cell);
        model.finish(&mut mappings, cell, ClaimId(2));
    }
    model.check(&mappings);
    model.finish(&mut mappings, 2, ClaimId(1));
    model.finish(&mut mappings, 1, ClaimId(1));
    assert!(model.mappings[0].1.claim.is_none());
    model.check(&mappings);
    model.split_mapping(&mut mappings, 2);
    assert_eq!(model.mappings.len(), 2);
    model.check(&mappings);
}
