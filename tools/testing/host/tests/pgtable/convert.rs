// SPDX-License-Identifier: GPL-2.0

//! Conversions of ranges: in both directions, in steps, and what they must not change. See also
//! `merge`.

use pgtable_host::pgtable::{
    Conversion,
    Error,
    Iova,
    Progress, //
};

use crate::model::Tile;
use crate::spec::{
    AmdV1,
    Spec,
    G,
    IR,
    M,
    PAGE, //
};
use crate::world::{
    range,
    set,
    sizes,
    World, //
};

const ALL: u64 = u64::MAX;

/// All pairs of sets, for ranges that start and end at every position relative to large blocks.
fn there_and_back_between_all_sets<S: Spec>() {
    let sets = [
        set(&[12]),
        set(&[12, 21]),
        set(&[12, 21, 30]),
        set(&[12, 16, 25]),
        set(&[12, 13]),
        ALL,
    ];
    let ranges = [
        (G, 4 * M, 0),
        (G - 2 * M, 8 * M, 0),
        (G - PAGE, 4 * M + 2 * PAGE, 0),
        (G + PAGE, 4 * M - 2 * PAGE, 0),
        (G, 8 * M, PAGE),
        (G, 8 * M, 2 * M),
        (G - 64 * M, 128 * M, 0),
    ];
    for (first, bytes, shift) in ranges {
        for from in sets {
            for to in sets {
                let mut world = World::<S>::new(2);
                world.map(
                    first,
                    bytes,
                    5 * G + (first & (G - 1)) + shift,
                    S::READ | S::WRITE,
                    from,
                );
                let old = world.model.clone();
                let all = range(first, first + (bytes - 1));

                world.model.convert(first, first + (bytes - 1), to);
                let (changes, _, result) = world.convert(all, to, 1 << 20);
                assert_eq!(result, Ok(()));
                world.check();
                let differ = world.model.tiles != old.tiles;
                assert_eq!(changes.touched().is_some(), differ);
                assert_eq!(changes.splits() + changes.merges() > 0, differ);

                let (_, _, result) = world.convert(all, from, 1 << 20);
                assert_eq!(result, Ok(()));
                world.model.convert(first, first + (bytes - 1), from);
                world.check();
                assert_eq!(world.model.tiles, old.tiles);
            }
        }
    }
}

fn one_gigabyte_to_4k_and_back<S: Spec>() {
    let mut world = World::<S>::new(2);
    world.leaf(G, 4 * G, 30);
    let all = range(G, 2 * G - 1);
    let (changes, _, result) = world.convert(all, set(&[12]), 1);
    assert_eq!((result, changes.splits()), (Ok(()), 1));
    world.model.convert(G, 2 * G - 1, set(&[12]));
    world.check();
    assert_eq!(world.arena.live(), 1 + 1 + 512);

    let (changes, steps, result) = world.convert(all, set(&[12, 30]), 64);
    assert_eq!((result, changes.merges()), (Ok(()), 1));
    assert!(steps > 4, "the look ahead is not done in one step");
    world.model.convert(G, 2 * G - 1, set(&[12, 30]));
    world.check();
    assert_eq!(world.arena.live(), 1);
}

/// Steps have the same result as one call, and each step is bounded.
fn steps_come_to_the_same<S: Spec>() {
    for work in [1, 2, 3, 7, 40] {
        let mut world = World::<S>::new(2);
        world.map(G - 6 * M - PAGE, 16 * M, 3 * G - 6 * M - PAGE, S::READ, ALL);
        world.map(G + 16 * M, 8 * M, 2 * G, S::READ, set(&[12, 21]));
        let all = range(0, 2 * G - 1);
        for to in [set(&[12]), ALL, set(&[12, 21])] {
            let old = world.model.tiles.clone();
            world.model.convert(0, 2 * G - 1, to);
            let (_, steps, result) = world.convert(all, to, work);
            assert_eq!(result, Ok(()));
            assert!(work > 2 || steps > 3 || world.model.tiles == old);
            world.check();
        }
    }
}

/// A step does about as much work as it is told, for all kinds of work.
fn steps_are_bounded<S: Spec>() {
    const PAGES: u64 = 8192;
    let two_steps_to = |to: u64, split: u64| (set(&[12]) | to, set(&[12]) | split);
    // What is mapped, its distance to physical memory, and what it becomes.
    for ((from, to), shift) in [
        (two_steps_to(1 << 13, 0), 0),
        (two_steps_to(1 << 16, 0), 0),
        (two_steps_to(1 << 20, 1 << 16), 0),
        (two_steps_to(1 << 21, 1 << 20), 0),
        (two_steps_to(0, 1 << 13), 0),
        (two_steps_to(0, 1 << 16), 0),
        (two_steps_to(0, 1 << 21), 0),
        (two_steps_to(0, 1 << 21), PAGE),
        (two_steps_to(0, 0), 0),
        ((ALL, set(&[12])), PAGE),
        ((set(&[12]), ALL), 8 * PAGE),
    ] {
        for scattered in [false, true] {
            for work in [1, 8] {
                let mut world = World::<S>::new(2);
                let pieces = if scattered { PAGES / 16 } else { 1 };
                let bytes = PAGES / pieces * PAGE;
                for n in 0..pieces {
                    let phys = (PAGES * PAGE + (n * 2 + 1) * bytes) + shift;
                    world.map(n * bytes, bytes, phys, S::READ, from);
                }
                let all = range(0, PAGES * PAGE - 1);
                world.model.convert(0, PAGES * PAGE - 1, to);

                let mut conversion = Conversion::new(all, sizes(to));
                let mut steps = 0;
                loop {
                    world.arena.visits.set(0);
                    let (_, result) = conversion.step(&mut world.editor(), work);
                    // A step may start with a 2M leaf, or one table of leaves, when little work is
                    // left.
                    let bound = 4 * 512 * (usize::try_from(work).unwrap() + 2);
                    let visits = world.arena.visits.get();
                    assert!(visits < bound, "{visits} of {bound}, {from:#x} to {to:#x}");
                    steps += 1;
                    if result == Ok(Progress::Done) {
                        break;
                    }
                }
                assert!(
                    u64::from(work) * steps < PAGES / 8,
                    "{steps} steps of {work}"
                );
                world.check();
            }
        }
    }
}

/// Leaves may be split between steps, even those that a look-ahead has seen.
fn splits_between_steps_do_no_harm<S: Spec>() {
    for to in [set(&[12, 21]), set(&[12, 22]), set(&[12, 16, 27]), ALL] {
        for from in [set(&[12, 21]), set(&[12, 25]), ALL] {
            let mut world = World::<S>::new(2);
            let (bytes, all) = (256 * M, range(G, G + 256 * M - 1));
            world.map(G, bytes, 4 * G, S::READ, from);
            world.mark(G + 77 * M, S::DIRTY);
            world.model.convert(G, all.last().get(), to);

            let mut conversion = Conversion::new(all, sizes(to));
            loop {
                let (_, result) = conversion.step(&mut world.editor(), 1);
                if result == Ok(Progress::Done) {
                    break;
                }
                assert_eq!(result, Ok(Progress::More));
                let rest = conversion.rest().unwrap();
                for ahead in [0, 2 * M, 10 * M, 63 * M, 64 * M, 100 * M] {
                    let Some(at) = rest.start().checked_add(ahead) else {
                        continue;
                    };
                    if rest.contains(at) {
                        let (_, result) = world.editor().split(at, sizes(set(&[12, 13])));
                        assert_eq!(result, Ok(()));
                    }
                }
                world.arena.settle();
            }
            // The parts of the leaf may not have had its AD bits before.
            let ad_bits = world
                .leaves()
                .iter()
                .fold(0, |ad_bits, leaf| ad_bits | leaf.ad_bits);
            assert_eq!(ad_bits, S::DIRTY);
            let bare = |tile: &Tile| Tile {
                ad_bits: 0,
                ..*tile
            };
            let found: Vec<_> = world.leaves().iter().map(bare).collect();
            assert_eq!(
                found,
                world.model.tiles.iter().map(bare).collect::<Vec<_>>()
            );
        }
    }
}

fn what_is_right_is_not_written<S: Spec>() {
    for to in [set(&[12]), set(&[12, 21]), ALL] {
        let mut world = World::<S>::new(2);
        world.map(G - 6 * M - PAGE, 16 * M, 3 * G - 6 * M - PAGE, S::READ, to);
        let (changes, _, result) = world.convert(range(0, 2 * G - 1), to, 1000);
        assert_eq!((result, changes.touched()), (Ok(()), None));
        world.check();
        assert_eq!(world.arena.stores.get(), 0);
    }
}

/// Larger leaves among smaller ones are split, and not overwritten.
#[test]
fn a_larger_leaf_in_the_way_is_split() {
    let mut world = World::<AmdV1>::new(2);
    world.map(0, 2 * M + PAGE, G, IR, set(&[12]));
    world.map(2 * M + PAGE, 15 * PAGE, G + 2 * M + PAGE, IR, ALL);
    let old = world.model.clone();
    let last = 2 * M + 16 * PAGE - 1;
    world.model.convert(0, last, set(&[12, 21]));
    let (changes, _, result) = world.convert(range(0, last), set(&[12, 21]), 1000);
    assert_eq!(result, Ok(()));
    assert_eq!((changes.splits(), changes.merges()), (3, 1));
    world.check();
    world.check_changes(&old, changes);
}

fn a_leaf_across_the_end_is_refused_and_kept<S: Spec>() {
    let mut world = World::<S>::new(2);
    world.leaf(2 * M, 2 * M, 21);
    let old = world.model.clone();
    for (first, last) in [(3 * M, 6 * M), (0, 3 * M), (3 * M, 3 * M + PAGE)] {
        let (changes, _, result) = world.convert(range(first, last - 1), set(&[12]), 1000);
        assert_eq!(result, Err(Error::Straddles(Iova::new(2 * M))));
        assert_eq!(changes.touched(), None);
        world.check();
        assert_eq!(world.model.tiles, old.tiles);
    }
}

for_each_format! {
    there_and_back_between_all_sets,
    one_gigabyte_to_4k_and_back,
    steps_come_to_the_same,
    steps_are_bounded,
    splits_between_steps_do_no_harm,
    what_is_right_is_not_written,
    a_leaf_across_the_end_is_refused_and_kept,
}
