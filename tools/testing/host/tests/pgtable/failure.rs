// SPDX-License-Identifier: GPL-2.0

//! No memory, at each allocation in turn.

use pgtable_host::pgtable::{
    Error,
    Iova, //
};

use crate::arena::NoMemory;
use crate::spec::{
    IR,
    PAGE, //
};
use crate::world::{
    range,
    set,
    sizes,
    World, //
};

const M: u64 = 1 << 20;
const G: u64 = 1 << 30;

/// A run of 2M entries, a single 2M leaf and a 1G leaf, each to be split to 4K.
fn world() -> World {
    let mut world = World::new(2);
    world.leaf(64 * M, 128 * M, 23);
    world.leaf(128 * M, 256 * M, 21);
    world.leaf(G, 4 * G, 30);
    world
}

#[test]
fn a_conversion_that_fails_leaves_each_leaf_old_or_new() {
    let only_4k = set(&[12]);
    let mut last_new = 0;
    // 4 tables for the run, 1 for the 2M leaf, 513 for the 1G leaf.
    for allowed in [0, 1, 2, 3, 4, 5, 6, 7, 300, 517, 518] {
        let mut world = world();
        let old = world.model.clone();
        let mut new = old.clone();
        new.convert(0, 2 * G - 1, only_4k);

        world.arena.until_failure = Some(allowed);
        let (changes, _, result) = world.convert(range(0, 2 * G - 1), only_4k, 1000);
        let enough = allowed >= 518;
        assert_eq!(
            result,
            if enough {
                Ok(())
            } else {
                Err(Error::Pages(NoMemory))
            }
        );
        let split = match allowed {
            0..=3 => 0,
            4 => 1,
            5..=517 => 2,
            _ => 3,
        };
        assert_eq!(changes.splits(), split, "{allowed} allocations");
        let are_new = world.check_either(&old, &new);
        assert!(are_new >= last_new);
        last_new = are_new;

        // Tables that the hardware saw for a while must be flushed all the same.
        assert_eq!(changes.touched().is_some(), allowed > 0);

        world.arena.until_failure = None;
        let (_, _, result) = world.convert(range(0, 2 * G - 1), only_4k, 1000);
        assert_eq!(result, Ok(()));
        world.model = new;
        world.check();
    }
}

#[test]
fn split_cut_and_carve_that_fail_change_no_leaf() {
    for lg2 in [21, 23, 29, 30] {
        for allowed in 0..3 {
            for which in 0..3 {
                let mut world = World::new(2);
                let iova = 4u64 << lg2;
                world.leaf(iova, 1 << lg2, lg2);
                world.mark(iova, crate::spec::DIRTY);
                world.arena.until_failure = Some(allowed);
                let small = sizes(set(&[12]));
                let at = iova + (1 << 20) + PAGE;
                let part = range(at, iova + (1 << lg2) - (1 << 20) - 1);
                let (changes, result) = match which {
                    0 => world.editor().split(Iova::new(at), small),
                    1 => world.editor().cut(Iova::new(at), small, sizes(u64::MAX)),
                    _ => world.editor().carve(part, sizes(u64::MAX), small),
                };
                if result == Ok(()) {
                    assert_eq!(changes.splits(), 1);
                    assert!(allowed > 0);
                } else {
                    assert_eq!(result, Err(Error::Pages(NoMemory)));
                    assert_eq!(changes.splits(), 0);
                    world.check();
                }
                world.arena.settle();
            }
        }
    }
}

#[test]
fn merging_needs_no_memory() {
    let mut world = World::new(2);
    world.map(2 * M, 62 * M, 2 * M, IR, set(&[12]));
    world.arena.until_failure = Some(0);
    world.model.convert(0, G - 1, u64::MAX);
    let (changes, _, result) = world.convert(range(0, G - 1), u64::MAX, 1000);
    assert_eq!((result, changes.merges()), (Ok(()), 5));
    world.check();
}
