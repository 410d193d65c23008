// SPDX-License-Identifier: GPL-2.0

//! Conversions that merge: what becomes one leaf, and what must not.

use crate::spec::{
    self,
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
    World, //
};

const ALL: u64 = u64::MAX;

fn nothing_is_merged_that_differs_or_has_a_hole<S: Spec>() {
    let mut world = World::<S>::new(2);
    let only_4k = set(&[12]);
    // The attributes change within 2M.
    world.map(0, M, 16 * M, S::READ, only_4k);
    world.map(M, M, 17 * M, S::READ | S::WRITE, only_4k);
    // A page is missing.
    world.map(2 * M, M, 18 * M, S::READ, only_4k);
    world.map(3 * M + PAGE, M - PAGE, 19 * M + PAGE, S::READ, only_4k);
    // A page has another physical address.
    world.map(4 * M, 2 * M - PAGE, 20 * M, S::READ, only_4k);
    world.map(6 * M - PAGE, PAGE, 99 * M, S::READ, only_4k);
    // Contiguous, but aligned to 4K only.
    world.map(6 * M, 2 * M, 32 * M + PAGE, S::READ, only_4k);
    let old = world.model.clone();
    let (changes, _, result) = world.convert(range(0, 8 * M - 1), set(&[12, 21]), 1000);
    assert_eq!((result, changes.touched()), (Ok(()), None));
    assert_eq!(world.model.tiles, old.tiles);
    world.check();
}

/// Two pieces that differ meet at any page of a block: the look-ahead starts and ends at every
/// page.
fn nothing_is_merged_across_a_difference_at_any_page<S: Spec>() {
    const LOOK_AHEAD: u64 = 64 * M;
    let only_4k = set(&[12]);
    for at in [
        PAGE,
        2 * PAGE,
        M,
        2 * M - PAGE,
        LOOK_AHEAD,
        LOOK_AHEAD + PAGE,
        LOOK_AHEAD + M,
    ] {
        // The attributes, physical distance and hole size of the next piece.
        for (rest, further, hole) in [
            (S::READ | S::WRITE, 0, 0),
            (S::READ, PAGE, 0),
            (S::READ, 128 * M, 0),
            (S::READ, 0, PAGE),
        ] {
            let mut world = World::<S>::new(2);
            let bytes = LOOK_AHEAD + 4 * M;
            world.map(0, at, G, S::READ, only_4k);
            let next = at + hole;
            world.map(next, bytes - next, G + next + further, rest, only_4k);
            for to in [set(&[12, 13]), set(&[12, 21]), set(&[12, 26]), ALL, only_4k] {
                world.model.convert(0, bytes - 1, to);
                let (_, _, result) = world.convert(range(0, bytes - 1), to, 1000);
                assert_eq!(result, Ok(()));
                world.check();
            }
        }
    }
}

/// Ranges that were mapped in pieces are merged across the pieces, but not beyond the range.
fn merges_reach_as_far_as_the_range<S: Spec>() {
    for (first, last) in [
        (0, 8 * M),
        (M, 7 * M),
        (2 * M, 6 * M),
        (2 * M + PAGE, 6 * M - PAGE),
    ] {
        let mut world = World::<S>::new(2);
        for n in 0..8 {
            world.map(n * M, M, (64 + n) * M, S::READ, set(&[12]));
        }
        world.model.convert(first, last - 1, ALL);
        let (_, _, result) = world.convert(range(first, last - 1), ALL, 1000);
        assert_eq!(result, Ok(()));
        world.check();
    }
}

/// Leaves of each size are made of those of the level below, and split again.
#[test]
fn large_leaves_merge_and_split_at_each_level() {
    for (small, large) in [
        (30, 31),
        (30, 34),
        (30, 38),
        (38, 40),
        (37, 47),
        (40, 41),
        (40, 47),
        (40, 48),
        (48, 50),
    ] {
        let mut world = World::<AmdV1>::new(4);
        let iova = 1u64 << 50;
        world.map(iova, 1 << large, 1 << large, IR, 1 << small);
        let all = range(iova, iova + ((1u64 << large) - 1));
        let before = world.model.clone();
        let to = set(&[12, large]);
        world.model.convert(iova, all.last().get(), to);
        world.arena.visits.set(0);
        let tables = world.arena.live();
        let (changes, _, result) = world.convert(all, to, u32::MAX);
        assert_eq!((result, changes.merges()), (Ok(()), 1));
        // A look-ahead reads at least one leaf, and leaves a table only once.
        let (visits, live) = (world.arena.visits.get(), world.arena.live());
        let bound = (16usize << (large - small)) + 600 * (tables - live + 1);
        assert!(visits < bound, "{visits} of {bound}, {small} to {large}");
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
        let mut world = World::<AmdV1>::new(level);
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

for_each_format! {
    nothing_is_merged_that_differs_or_has_a_hole,
    nothing_is_merged_across_a_difference_at_any_page,
    merges_reach_as_far_as_the_range,
}
