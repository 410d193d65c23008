// SPDX-License-Identifier: GPL-2.0

//! Joined mappings beside mappings by themselves, against a model of pages.

use kernel::alloc::with_allocations;
use kernel::sync::Arc;
use proptest::prelude::*;

use crate::container::joined::{
    can_be_joined,
    JoinedMappings,
    JoinedReservation, //
};
use crate::container::joined_entry::Grain;
use crate::container::mapping::{
    Mapping,
    Mappings,
    NodeReservation, //
    RemovedMappings,
};
use crate::iommu::Access;
use crate::mm::{
    Locked,
    UserAddr, //
};
use crate::pgtable::{
    Iova,
    IovaRange,
    PageSize, //
};
use crate::sys::sched::POINTS;

/// The pages that are used: the last ones of a gigabyte, and the first ones of the next.
const PAGES: usize = 24;

const FIRST: u64 = 3 * (1 << 18) - PAGES as u64 / 2;

const LIMIT: u32 = 3;

fn range(first: usize, count: usize) -> IovaRange {
    let start = Iova::new((FIRST + first as u64) * 4096);

    IovaRange::with_len(start, count as u64 * 4096).expect("pages")
}

fn page(iova: Iova) -> usize {
    usize::try_from(iova.get() / 4096 - FIRST).expect("one of them")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    /// Which memory.
    kind: u8,
    /// Which piece, as they come.
    piece: u32,
    joined: bool,
}

struct Model {
    pages: [Option<Owner>; PAGES],
    count: u32,
    payers: [Arc<Locked>; 2],
    mappings: Mappings,
}

impl Model {
    fn new() -> Self {
        Self {
            pages: [None; PAGES],
            count: 0,
            payers: [(); 2].map(|()| Arc::new(Locked::default())),
            mappings: Mappings::new(),
        }
    }

    /// Memory of a kind for some pages: of two distances, two accesses, and two payers.
    fn mapping(&self, kind: u8, range: IovaRange) -> Mapping {
        let memory = UserAddr(u64::from(kind & 1) * 77 * 4096).after(range.start().get() / 4096);

        Mapping {
            range,
            memory,
            access: Access((kind >> 1) & 1),
            stateful: false,
            mixed: false,
            vaddr_invalid: false,
            in_progress: None,
            locked: self.payers[usize::from((kind >> 2) & 1)].clone(),
        }
    }

    fn entries(&self) -> u32 {
        let mut known: Vec<_> = (0..PAGES)
            .filter_map(|page| Some((page / (PAGES / 2), self.pages[page]?)))
            .filter(|(_, owner)| owner.joined)
            .map(|(block, owner)| (block, owner.kind))
            .collect();

        known.sort_unstable();
        known.dedup();
        known.len() as u32
    }

    fn is_free(&self, first: usize, count: usize) -> bool {
        self.pages[first..first + count].iter().all(Option::is_none)
    }

    fn map(&mut self, kind: u8, first: usize, count: usize, join: bool) {
        let range = range(first, count);

        assert_eq!(self.mappings.any_in(range), !self.is_free(first, count));
        if !self.is_free(first, count) {
            return;
        }
        let mapping = self.mapping(kind, range);
        let block = first / (PAGES / 2);
        let is_there = (0..PAGES).any(|page| {
            page / (PAGES / 2) == block
                && self.pages[page].is_some_and(|owner| owner.joined && owner.kind == kind)
        });
        let one_block = block == (first + count - 1) / (PAGES / 2);
        assert_eq!(can_be_joined(range), one_block);
        let joins = join && one_block && (is_there || self.entries() < LIMIT);

        if join && one_block {
            let joined = &mut self.mappings.joined;
            let part = mapping.as_part();
            assert_eq!(joined.take(&part, LIMIT), joins);
            // Where there is one already there is room, for all of these are in one chunk.
            assert_eq!(joined.have_room(&part), is_there);
            let room = JoinedReservation::new().expect("memory");
            let room = Some(room).filter(|_| !is_there);
            assert_eq!(
                with_allocations(0, || joined.add(&part, room, LIMIT)),
                joins
            );
        }
        if !joins {
            self.mappings
                .insert(NodeReservation::new().expect("memory"), mapping);
        }
        self.count += 1;
        let owner = Owner {
            kind,
            piece: self.count,
            joined: joins,
        };
        self.pages[first..first + count].fill(Some(owner));
    }

    /// Takes out what is joined in some pages.
    fn unmap(&mut self, first: usize, count: usize) {
        let range = range(first, count);
        let mut gone = RemovedMappings::none();
        let mut removed = 0;

        while let Some(part) = self.mappings.next_joined(range) {
            assert!(range.covers(part.range));
            removed +=
                with_allocations(0, || gone.take_joined(&mut self.mappings, &part.as_part()));
        }
        let mut wanted = 0;
        for page in &mut self.pages[first..first + count] {
            if page.is_some_and(|owner| owner.joined) {
                *page = None;
                wanted += 1;
            }
        }
        assert_eq!(removed, wanted);
        // What is left behind them is a piece of its own.
        let Some(cut) = self.pages.get(first + count).copied().flatten() else {
            return;
        };
        if cut.joined {
            self.count += 1;
            for page in &mut self.pages[first + count..] {
                match page {
                    Some(owner) if owner.piece == cut.piece => owner.piece = self.count,
                    _ => break,
                }
            }
        }
    }

    fn goes_on_at(&self, page: usize) -> bool {
        let piece = |page: usize| self.pages.get(page)?.map(|owner| owner.piece);

        page != 0 && piece(page).is_some() && piece(page) == piece(page - 1)
    }

    fn check(&self) {
        let joined = &self.mappings.joined;
        let is_joined = |owner: &&Option<Owner>| owner.is_some_and(|owner| owner.joined);

        assert_eq!(joined.count(), self.entries());
        assert_eq!(
            joined.pages() as usize,
            self.pages.iter().filter(is_joined).count()
        );
        for first in 0..PAGES {
            for count in 1..=PAGES - first {
                let cut = self.goes_on_at(first) || self.goes_on_at(first + count);
                assert_eq!(self.mappings.crosses_end_of(range(first, count)), cut);
                for grain in [Grain::Spans, Grain::Runs, Grain::Pieces] {
                    self.check_parts(first, count, grain);
                }
            }
        }
    }

    /// What there is in some pages comes in rising order, and nothing of it is another's. It is whole, and
    /// found at once.
    fn check_parts(&self, first: usize, count: usize, grain: Grain) {
        let wanted = range(first, count);
        let mut seen = [false; PAGES];
        let mut behind = None;

        for part in self.mappings.parts(wanted, grain) {
            assert!(
                part.range.intersect(wanted).is_some(),
                "{:?} of {wanted:?}, {grain:?}",
                part.range
            );
            assert!(behind < Some(part.range.start()));
            behind = Some(part.range.last());
            let pages = page(part.range.start())..PAGES.min(page(part.range.last()) + 1);
            let owner = self.pages[pages.start].expect("mapped");
            let same = self.mapping(owner.kind, part.range);
            assert!(part.memory == same.memory && part.access == same.access);
            assert!(Arc::ptr_eq(&part.locked, &same.locked));

            for page in pages {
                let Some(here) = self.pages[page] else {
                    assert_eq!(grain, Grain::Spans);
                    continue;
                };
                assert_eq!((here.kind, here.joined), (owner.kind, owner.joined));
                if grain == Grain::Pieces || !owner.joined {
                    assert_eq!(here.piece, owner.piece);
                }
                seen[page] = true;
            }
        }
        let ranges = |wanted| -> Vec<IovaRange> {
            let parts = self.mappings.parts(wanted, grain);
            parts.map(|part| part.range).collect()
        };
        let mut all = ranges(IovaRange::ALL);
        all.retain(|part| part.intersect(wanted).is_some());
        let before = POINTS.get();
        assert_eq!(ranges(wanted), all);
        // One more finds that there is nothing else.
        assert!(POINTS.get() - before <= all.len() + 1);
        let all = first..first + count;
        assert!(all
            .into_iter()
            .all(|page| seen[page] == self.pages[page].is_some()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn joined_mappings_are_where_they_were_put(
        ops in prop::collection::vec((0..8u8, 0..PAGES, 1..6usize, 0..10u8), 1..40),
    ) {
        let mut model = Model::new();

        for (kind, first, count, what) in ops {
            let count = count.min(PAGES - first);
            match what {
                0..=5 => model.map(kind & 5, first, count, true),
                6 => model.map(kind, first, count, true),
                7 => model.map(kind, first, count, false),
                _ => model.unmap(first, count),
            }
            model.check();
        }
    }
}

#[test]
fn block_is_whole_if_one_has_all_of_it() {
    let block = IovaRange::block(Iova::new(5 << 21), PageSize::SIZE_2M);
    let model = Model::new();
    let mut joined = JoinedMappings::new();
    let half = |start: u64| {
        IovaRange::with_len(Iova::new(block.start().get() + start), 1 << 20).expect("pages")
    };
    let add = |joined: &mut JoinedMappings, kind, range| {
        let part = model.mapping(kind, range).as_part();
        assert!(joined.add(&part, JoinedReservation::new().ok(), 2));
    };

    add(&mut joined, 0, half(0));
    assert_eq!(joined.whole_block(block.start()), None);
    add(&mut joined, 1, half(1 << 20));
    assert_eq!(joined.whole_block(block.start()), None);
    let other = model.mapping(1, half(1 << 20)).as_part();
    assert_eq!(joined.remove(&other, &mut JoinedMappings::new()), 256);
    add(&mut joined, 0, half(1 << 20));
    assert_eq!(joined.whole_block(block.last()), Some(block));
    assert_eq!(joined.count(), 1);
}

#[test]
fn what_has_gone_is_settled() {
    let mut model = Model::new();

    model.map(0, 0, 2, true);
    model.map(1, 2, 2, true);
    let mut gone = RemovedMappings::none();
    let part = |kind, first, count| model.mapping(kind, range(first, count)).as_part();
    let parts = [part(0, 0, 2), part(1, 2, 1)];
    let settled = || {
        model.payers[0]
            .settled
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    for part in &parts {
        gone.take_joined(&mut model.mappings, part);
    }
    assert_eq!(settled(), 0);
    drop(gone);
    // Of the other, one page is left.
    assert_eq!(settled(), 1);
    assert_eq!(model.mappings.joined.count(), 1);
}
