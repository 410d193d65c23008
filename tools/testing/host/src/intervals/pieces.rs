// SPDX-License-Identifier: GPL-2.0

//! Pieces of a gigabyte against a model that knows of each page to which piece it belongs.

use kernel::alloc::with_allocations;
use proptest::prelude::*;

use crate::container::pieces::{
    Pages,
    PieceReservation,
    Pieces,
    MOST,
    PAGES, //
};

/// Pages near the start, the end, and where words and chunks meet: the only ones that are used.
fn places() -> Vec<usize> {
    let around = |at: usize| at.saturating_sub(3)..(at + 3).min(PAGES);

    [0, 64, 128, MOST, 2 * MOST, 3 * MOST, PAGES - 64, PAGES]
        .into_iter()
        .flat_map(around)
        .collect()
}

/// To which piece a page belongs, counted as they come.
struct Model {
    owner: Vec<u32>,
    count: u32,
}

impl Model {
    fn mapped(&self, pages: Pages) -> usize {
        let owners = &self.owner[pages.first..=pages.last];

        owners.iter().filter(|owner| **owner != 0).count()
    }

    fn goes_on_at(&self, page: usize) -> bool {
        page != 0
            && page < PAGES
            && self.owner[page] != 0
            && self.owner[page] == self.owner[page - 1]
    }

    fn check(&self, pieces: &Pieces) {
        assert_eq!(pieces.is_empty(), self.mapped(Pages::ALL) == 0);
        for page in places() {
            let next = (page..PAGES).find(|page| self.owner[*page] != 0);
            let behind = Pages {
                first: page,
                ..Pages::ALL
            };
            assert_eq!(pieces.first_in(behind), next, "from {page}");
            if self.owner[page] == 0 {
                continue;
            }
            let run = (page..PAGES).take_while(|page| self.owner[*page] != 0);
            assert_eq!(pieces.last_mapped(page), run.last().expect("itself"));
            let piece = (page..PAGES).take_while(|other| self.owner[*other] == self.owner[page]);
            assert_eq!(pieces.last_of_piece(page), piece.last().expect("itself"));
            let run = (0..=page).rev().take_while(|page| self.owner[*page] != 0);
            assert_eq!(pieces.first_mapped(page), run.last().expect("itself"));
            let is_same = |other: &usize| self.owner[*other] == self.owner[page];
            let piece = (0..=page).rev().take_while(is_same);
            assert_eq!(pieces.first_of_piece(page), piece.last().expect("itself"));
        }
    }

    fn check_range(&self, pieces: &Pieces, pages: Pages) {
        let cut = self.goes_on_at(pages.first) || self.goes_on_at(pages.last + 1);
        let all = pages.last + 1 - pages.first;
        let first = (pages.first..=pages.last).find(|page| self.owner[*page] != 0);
        assert_eq!(pieces.first_in(pages), first);
        let mut back = (pages.first..=pages.last).rev();
        let last = back.find(|page| self.owner[*page] != 0);
        assert_eq!(pieces.last_in(pages), last);

        assert_eq!(pieces.are_cut_by(pages), cut, "by {pages:?}");
        assert_eq!(pieces.are_all_in(pages), self.mapped(pages) == all);
    }

    fn add(&mut self, pieces: &mut Pieces, pages: Pages) {
        if pages.last - pages.first >= MOST || self.mapped(pages) != 0 {
            return;
        }
        let mut room = PieceReservation::new().expect("memory");
        with_allocations(0, || {
            pieces.make_room(pages, &mut room);
            assert!(pieces.has_room(pages));
            pieces.add(pages);
        });
        self.count += 1;
        self.owner[pages.first..=pages.last].fill(self.count);
    }

    fn remove(&mut self, pieces: &mut Pieces, pages: Pages) {
        assert_eq!(
            with_allocations(0, || pieces.remove(pages)),
            self.mapped(pages)
        );
        self.owner[pages.first..=pages.last].fill(0);
        // What is left behind is a piece of its own.
        let behind = pages.last + 1;
        if behind < PAGES && self.owner[behind] != 0 {
            self.count += 1;
            let cut = self.owner[behind];
            let rest = self.owner[behind..].iter_mut();
            rest.take_while(|owner| **owner == cut)
                .for_each(|owner| *owner = self.count);
        }
    }
}

fn ranges() -> impl Strategy<Value = Pages> {
    let places = places();
    let index = 0..places.len();
    let more = prop_oneof![3 => 0..3usize, 1 => 0..places.len()];

    (index, more).prop_map(move |(index, more)| Pages {
        first: places[index],
        last: places[(index + more).min(places.len() - 1)],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn pieces_keep_their_bounds(ops in prop::collection::vec((ranges(), prop::bool::weighted(0.7)), 1..40)) {
        let mut model = Model { owner: vec![0; PAGES], count: 0 };
        let mut pieces = Pieces::new();

        for (pages, add) in ops {
            model.check_range(&pieces, pages);
            if add {
                model.add(&mut pieces, pages);
            } else {
                model.remove(&mut pieces, pages);
            }
            model.check_range(&pieces, pages);
            model.check(&pieces);
        }
        model.remove(&mut pieces, Pages::ALL);
        model.check(&pieces);
    }
}

#[test]
fn room_is_what_needs_memory() {
    for count in 0..2 {
        assert!(with_allocations(count, PieceReservation::new).is_err());
    }
    let mut pieces = Pieces::new();
    let first = Pages { first: 5, last: 5 };
    let across = Pages {
        first: MOST - 1,
        last: MOST,
    };
    assert!(!pieces.has_room(first));
    let mut room = PieceReservation::new().expect("memory");
    pieces.make_room(first, &mut room);
    assert!(pieces.has_room(first) && !pieces.has_room(across));
    // What is left of it is for the other chunk.
    let mut room = PieceReservation::new().expect("memory");
    pieces.make_room(across, &mut room);
    assert!(pieces.has_room(across));
}
