// SPDX-License-Identifier: GPL-2.0

//! Conversion of ranges: to and fro, in steps, and what it must leave alone.

use pgtable_host::pgtable::{
    Error,
    Iova, //
};

use crate::spec::{
    self,
    IR,
    IW,
    PAGE, //
};
use crate::world::{
    range,
    set,
    World, //
};

const M: u64 = 1 << 20;
const G: u64 = 1 << 30;
const ALL: u64 = u64::MAX;

/// Every pair of sets, over ranges whose ends are in every position relative to large blocks.
#[test]
fn there_and_back_between_all_sets() {
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
                let mut world = World::new(2);
                world.map(
                    first,
                    bytes,
                    5 * G + (first & (G - 1)) + shift,
                    IR | IW,
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

#[test]
fn one_gigabyte_to_4k_and_back() {
    let mut world = World::new(2);
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

/// What is done in steps is what is done at once, and each step is bounded.
#[test]
fn steps_come_to_the_same() {
    for work in [1, 2, 3, 7, 40] {
        let mut world = World::new(2);
        world.map(G - 6 * M - PAGE, 16 * M, 3 * G - 6 * M - PAGE, IR, ALL);
        world.map(G + 16 * M, 8 * M, 2 * G, IR, set(&[12, 21]));
        let all = range(0, 2 * G - 1);
        for to in [set(&[12]), ALL, set(&[12, 21])] {
            world.model.convert(0, 2 * G - 1, to);
            let (_, steps, result) = world.convert(all, to, work);
            assert_eq!(result, Ok(()));
            assert!(work > 3 || steps > 3);
            world.check();
        }
    }
}

#[test]
fn what_is_right_is_not_written() {
    for to in [set(&[12]), set(&[12, 21]), ALL] {
        let mut world = World::new(2);
        world.map(G - 6 * M - PAGE, 16 * M, 3 * G - 6 * M - PAGE, IR, to);
        let (changes, _, result) = world.convert(range(0, 2 * G - 1), to, 1000);
        assert_eq!((result, changes.touched()), (Ok(()), None));
        world.check();
        assert_eq!(world.arena.stores.get(), 0);
    }
}

#[test]
fn nothing_is_merged_that_differs_or_has_a_hole() {
    let mut world = World::new(2);
    let only_4k = set(&[12]);
    // Attributes change in the midst of 2M.
    world.map(0, M, 16 * M, IR, only_4k);
    world.map(M, M, 17 * M, IR | IW, only_4k);
    // A page is missing.
    world.map(2 * M, M, 18 * M, IR, only_4k);
    world.map(3 * M + PAGE, M - PAGE, 19 * M + PAGE, IR, only_4k);
    // A page comes from elsewhere.
    world.map(4 * M, 2 * M - PAGE, 20 * M, IR, only_4k);
    world.map(6 * M - PAGE, PAGE, 99 * M, IR, only_4k);
    // Contiguous, but aligned to 4K only.
    world.map(6 * M, 2 * M, 32 * M + PAGE, IR, only_4k);
    let old = world.model.clone();
    let (changes, _, result) = world.convert(range(0, 8 * M - 1), set(&[12, 21]), 1000);
    assert_eq!((result, changes.touched()), (Ok(()), None));
    assert_eq!(world.model.tiles, old.tiles);
    world.check();
}

/// What was mapped piece by piece merges across the pieces, within the range and not beyond.
#[test]
fn merges_reach_as_far_as_the_range() {
    for (first, last) in [
        (0, 8 * M),
        (M, 7 * M),
        (2 * M, 6 * M),
        (2 * M + PAGE, 6 * M - PAGE),
    ] {
        let mut world = World::new(2);
        for n in 0..8 {
            world.map(n * M, M, (64 + n) * M, IR, set(&[12]));
        }
        world.model.convert(first, last - 1, ALL);
        let (_, _, result) = world.convert(range(first, last - 1), ALL, 1000);
        assert_eq!(result, Ok(()));
        world.check();
    }
}

#[test]
fn a_leaf_across_the_end_is_refused_and_kept() {
    let mut world = World::new(2);
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

/// Runs across the levels: leaves of each size made of those of the level below, and back.
#[test]
fn large_leaves_merge_and_split_at_each_level() {
    for (small, large) in [
        (30, 31),
        (30, 34),
        (30, 38),
        (40, 41),
        (40, 47),
        (40, 48),
        (48, 50),
    ] {
        let mut world = World::new(4);
        let iova = 1u64 << 50;
        world.map(iova, 1 << large, 1 << large, IR, 1 << small);
        let all = range(iova, iova + ((1u64 << large) - 1));
        let before = world.model.clone();
        let to = set(&[12, large]);
        world.model.convert(iova, all.last().get(), to);
        let (changes, _, result) = world.convert(all, to, u32::MAX);
        assert_eq!((result, changes.merges()), (Ok(()), 1));
        world.check();
        assert_eq!(world.model.tiles.len(), 1);

        let back = set(&[12, small]);
        world.model.convert(iova, all.last().get(), back);
        let (changes, _, result) = world.convert(all, back, u32::MAX);
        assert_eq!((result, changes.splits()), (Ok(()), 1));
        world.check();
        assert_eq!(world.model.tiles, before.tiles);
    }
}

/// The top does not grow: its level limits the leaves.
#[test]
fn no_leaf_is_made_that_the_top_can_not_hold() {
    for level in 1..=2 {
        let mut world = World::new(level);
        let bytes = 1u64 << spec::shift(level + 1);
        world.map(0, bytes, 0, IR, set(&[spec::shift(level)]));
        let reach = (1u64 << spec::shift(level + 1)) - 1;
        world.model.convert(0, bytes - 1, reach);
        let (_, _, result) = world.convert(range(0, bytes - 1), ALL, u32::MAX);
        assert_eq!(result, Ok(()));
        world.check();
        assert_eq!(world.model.tiles.len(), 2);
    }
}
