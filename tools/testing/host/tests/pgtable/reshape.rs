// SPDX-License-Identifier: GPL-2.0

//! Splits: every size, at every level, at every kind of boundary.

use crate::spec::{
    self,
    AmdV1,
    Spec,
    IR,
    IW,
    PAGE, //
};
use crate::world::{
    range,
    set,
    sizes,
    World, //
};
use pgtable_host::pgtable::{
    Changes,
    Error,
    Iova, //
};

/// Leaves from 8K to 32G, whose parts can be counted by page or by table.
fn splittable<S: Spec>() -> impl Iterator<Item = u32> {
    (13..=31).filter(|lg2| S::has(*lg2))
}

/// A leaf of 2^`lg2` with a neighbour on each side that must not change.
fn world_with<S: Spec>(lg2: u32, c_bit: u64) -> (World<S>, u64) {
    let mut world = World::encrypted(3, c_bit);
    let iova = 4u64 << lg2;
    for n in [3, 4, 5] {
        world.map(
            n << lg2,
            1 << lg2,
            (n + 8) << lg2,
            S::READ | S::WRITE | c_bit,
            1 << lg2,
        );
    }
    (world, iova)
}

fn split_of_each_size_to_each_smaller<S: Spec>() {
    for c_bit in S::C_BITS.iter().copied() {
        for lg2 in splittable::<S>() {
            for to in (12..lg2).filter(|to| lg2 - to <= 18) {
                let (mut world, iova) = world_with::<S>(lg2, c_bit);
                let to = set(&[12, to]);
                world.model.split(iova, to);
                let (changes, result) = world.editor().split(Iova::new(iova + PAGE), sizes(to));
                assert_eq!(result, Ok(()));
                assert_eq!((changes.splits(), changes.merges()), (1, 0));
                assert_eq!(changes.touched(), Some(range(iova, iova + (1 << lg2) - 1)));
                world.check();
            }
        }
    }
}

fn split_of_what_is_allowed_or_absent_does_nothing<S: Spec>() {
    let (mut world, iova) = world_with::<S>(21, 0);
    for (at, to) in [
        (iova, u64::MAX),
        (iova, set(&[12, 21])),
        (0, set(&[12])),
        (1 << 48, 0),
    ] {
        let (changes, result) = world.editor().split(Iova::new(at), sizes(to));
        assert_eq!((result, changes.touched()), (Ok(()), None));
    }
    assert_eq!(world.arena.stores.get(), 0);
    world.check();
}

/// 4K is always allowed.
fn a_4k_leaf_is_never_split<S: Spec>() {
    let mut world = World::<S>::new(2);
    world.leaf(5 * PAGE, 7 * PAGE, 12);
    for allowed in [0, set(&[13]), set(&[21])] {
        let (changes, result) = world.editor().split(Iova::new(5 * PAGE), sizes(allowed));
        assert_eq!((result, changes), (Ok(()), Changes::NONE));
        let all = range(0, (1 << 30) - 1);
        let (changes, result) = world
            .editor()
            .split_range(all, sizes(allowed), sizes(allowed));
        assert_eq!((result, changes), (Ok(()), Changes::NONE));
        let (changes, _, result) = world.convert(all, allowed, 1);
        assert_eq!((result, changes), (Ok(()), Changes::NONE));
    }
    assert_eq!(world.arena.stores.get(), 0);
    world.check();
}

/// The driver writes no such leaf, but it is valid: the size of one entry, encoded in the address.
#[test]
fn a_single_leaf_whose_size_is_coded_is_split_too() {
    for (lg2, code) in [(21, 0xf_f000), (30, 0x1fff_f000)] {
        let mut world = World::<AmdV1>::new(2);
        let iova = 4u64 << lg2;
        world.leaf(iova, 8 << lg2, lg2);
        let word = (8 << lg2) | code | (7 << 9) | IR | IW | 1;
        world.arena.rewrite(iova, word);
        world.check();
        world.model.split(iova, 1 << (lg2 - 1));
        let (changes, result) = world.editor().split(Iova::new(iova), sizes(1 << (lg2 - 1)));
        assert_eq!((result, changes.splits()), (Ok(()), 1));
        world.check();
    }
}

fn split_of_a_2m_leaf_is_one_store_and_one_table<S: Spec>() {
    let (mut world, iova) = world_with::<S>(21, 0);
    let before = world.arena.live();
    let _ = world.editor().split(Iova::new(iova), sizes(set(&[12])));
    assert_eq!(world.arena.live(), before + 1);
    world.arena.settle();
    assert_eq!(world.arena.stores.get(), 1);
}

/// The parts are of the levels from the top down to 4K, at any level of the leaf.
#[test]
fn huge_leaves_split_into_the_next_sizes() {
    for lg2 in spec::all_sizes().filter(|lg2| *lg2 > 31) {
        for to in lg2.saturating_sub(9).max(12)..lg2 {
            let mut world = World::<AmdV1>::new(5);
            let iova = 2u64 << lg2;
            world.leaf(iova, 1 << lg2, lg2);
            if to == 39 {
                continue;
            }
            world.model.split(iova, 1 << to);
            let (changes, result) = world.editor().split(Iova::new(iova), sizes(1 << to));
            assert_eq!((result, changes.splits()), (Ok(()), 1));
            world.check();
        }
    }
}

/// Boundaries within a leaf, and one page before and behind each.
fn boundaries(lg2: u32) -> Vec<u64> {
    let mut all = Vec::new();
    for at in [12, 13, 16, 20, 21, 22, 25, 29, 30, lg2 - 1] {
        for n in [1, 3] {
            let at = n << at;
            all.extend([at - PAGE, at, at + PAGE]);
        }
    }
    all.push((1 << lg2) - PAGE);
    all.retain(|at| *at > 0 && *at < 1 << lg2);
    all.sort_unstable();
    all.dedup();
    all
}

fn cut_of_each_size_at_each_boundary<S: Spec>() {
    let sets = [u64::MAX, set(&[12]), set(&[12, 21, 30]), set(&[12, 16, 22])];
    for lg2 in splittable::<S>() {
        for at in boundaries(lg2) {
            for (left, right) in [(0, 0), (2, 2), (0, 2), (3, 0)] {
                let (left, right) = (sets[left], sets[right]);
                let (mut world, iova) = world_with::<S>(lg2, 0);
                world.model.split_boundary(iova + at, left, right);
                let editor = &mut world.editor();
                let (changes, result) =
                    editor.split_boundary(Iova::new(iova + at), sizes(left), sizes(right));
                assert_eq!((result, changes.splits()), (Ok(()), 1));
                world.check();
                assert_eq!(world.model.tile_at(iova + at).unwrap().iova, iova + at);
            }
        }
    }
}

#[test]
fn cut_where_a_leaf_starts_or_none_is_does_nothing() {
    let (mut world, iova) = world_with::<AmdV1>(22, 0);
    for at in [iova, 0, iova - (1 << 22)] {
        let (changes, result) = world
            .editor()
            .split_boundary(Iova::new(at), sizes(0), sizes(0));
        assert_eq!((result, changes.touched()), (Ok(()), None));
    }
    // Not page-aligned: no leaf can start there.
    let (changes, result) = world
        .editor()
        .split_boundary(Iova::new(iova + 1), sizes(0), sizes(0));
    assert_eq!(
        (result, changes.touched()),
        (Err(Error::Straddles(Iova::new(iova))), None)
    );
    world.check();
}

/// What a smash of 2M needs: 4K leaves there, and large ones around.
fn split_range_of_2m_out_of_each_larger_size<S: Spec>() {
    for lg2 in (21..=32).filter(|lg2| S::has(*lg2)) {
        for n in [0, 1, (1u64 << (lg2 - 21)) - 1] {
            if n >> (lg2 - 21) != 0 {
                continue;
            }
            let (mut world, iova) = world_with::<S>(lg2, 0);
            let (first, last) = (iova + (n << 21), iova + (n << 21) + (1 << 21) - 1);
            let outer = u64::MAX;
            world.model.split_range(first, last, set(&[12]), outer);
            let before = world.arena.live();
            let (changes, result) =
                world
                    .editor()
                    .split_range(range(first, last), sizes(set(&[12])), sizes(outer));
            assert_eq!((result, changes.splits()), (Ok(()), 1));
            world.check();
            let tables = world.arena.live() - before;
            assert_eq!(tables, if lg2 < 30 { 1 } else { 2 });
            let small = world
                .model
                .tiles
                .iter()
                .filter(|tile| tile.lg2 == 12)
                .count();
            assert_eq!(small, 512);
        }
    }
}

fn split_range_over_many_leaves<S: Spec>() {
    for (first, last) in [
        (0u64, 15u64),
        (1, 14),
        (3, 12),
        (511, 513),
        (0, 1023),
        (700, 1200),
    ] {
        for inner in [set(&[12, 15]), set(&[12, 21]), u64::MAX] {
            let mut world = World::<S>::new(2);
            let base = (1u64 << 30) - (1 << 20);
            world.map(base, 6 << 20, 64 << 30, S::READ | S::WRITE, u64::MAX);
            world.map(base + (6 << 20), 2 << 20, 80 << 30, S::READ, set(&[12, 14]));
            let (first, last) = (base + first * PAGE, base + last * PAGE + (PAGE - 1));
            let old = world.model.clone();
            let outer = set(&[12, 13, 21]);
            world.model.split_range(first, last, inner, outer);
            let (changes, result) =
                world
                    .editor()
                    .split_range(range(first, last), sizes(inner), sizes(outer));
            assert_eq!(result, Ok(()));
            world.check();
            world.check_changes(&old, changes);
            world.check_touched(changes);
        }
    }
}

for_each_format! {
    split_of_each_size_to_each_smaller,
    split_of_what_is_allowed_or_absent_does_nothing,
    a_4k_leaf_is_never_split,
    split_of_a_2m_leaf_is_one_store_and_one_table,
    cut_of_each_size_at_each_boundary,
    split_range_of_2m_out_of_each_larger_size,
    split_range_over_many_leaves,
}
