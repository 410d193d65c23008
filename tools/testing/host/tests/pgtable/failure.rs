// SPDX-License-Identifier: GPL-2.0

//! Failure of each allocation in turn.

use pgtable_host::pgtable::{
    Changes,
    Conversion,
    Error,
    Iova,
    Progress, //
};

use crate::arena::NoMemory;
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

/// A contiguous entry of 2M entries, a 2M leaf and a 1G leaf, each to be split to 4K.
fn world() -> World<AmdV1> {
    let mut world = World::<AmdV1>::new(2);
    world.leaf(64 * M, 128 * M, 23);
    world.leaf(128 * M, 256 * M, 21);
    world.leaf(G, 4 * G, 30);
    world
}

#[test]
fn a_conversion_that_fails_leaves_each_leaf_old_or_new() {
    let only_4k = set(&[12]);
    let mut last_new = 0;
    // 4 tables for the contiguous entry, 1 for the 2M leaf, 513 for the 1G leaf.
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

        // Tables that the hardware has seen must be flushed nevertheless.
        assert_eq!(changes.touched().is_some(), allowed > 0);
        world.check_touched(changes);

        world.arena.until_failure = None;
        let (_, _, result) = world.convert(range(0, 2 * G - 1), only_4k, 1000);
        assert_eq!(result, Ok(()));
        world.model = new;
        world.check();
    }
}

/// One leaf is split to 4K by each edit: the minimum number of allocations is one per table, and
/// with fewer no leaf changes.
fn edits_that_fail_change_no_leaf<S: Spec>() {
    let all = [(21, 1), (22, 2), (23, 4), (26, 32), (29, 256), (30, 513)];
    for (lg2, tables) in all.into_iter().filter(|(lg2, _)| S::has(*lg2)) {
        for which in 0..3 {
            let few = tables.min(5);
            for allowed in (0..few).chain([tables / 2, tables - 1, tables]) {
                let mut world = World::<S>::new(2);
                let iova = 4u64 << lg2;
                world.leaf(iova, 1 << lg2, lg2);
                world.mark(iova, S::DIRTY);
                world.arena.until_failure = Some(allowed);
                let old = world.model.clone();

                let small = set(&[12]);
                let at = iova + (1 << 20) + PAGE;
                let (first, last) = (at, iova + (1 << lg2) - 1);
                let (changes, result) = match which {
                    0 => world.editor().split(Iova::new(at), sizes(small)),
                    1 => {
                        let editor = &mut world.editor();
                        editor.split_boundary(Iova::new(at), sizes(small), sizes(small))
                    }
                    _ => {
                        let editor = &mut world.editor();
                        editor.split_range(range(first, last), sizes(small), sizes(small))
                    }
                };
                if allowed < tables {
                    assert_eq!(result, Err(Error::Pages(NoMemory)));
                    assert_eq!(changes.splits(), 0);
                    // Entries that pointed to new tables for a while.
                    let run = lg2 != 30;
                    assert_eq!(world.arena.retired(), if run { allowed } else { 0 });
                    assert_eq!(changes.touched().is_some(), run && allowed > 0);
                    world.check_touched(changes);
                } else {
                    assert_eq!((result, changes.splits()), (Ok(()), 1));
                    world.model.split(iova, small);
                    assert_ne!(world.model.tiles, old.tiles);
                }
                world.check();
            }
        }
    }
}

/// A conversion that failed can continue when there is memory.
#[test]
fn a_conversion_that_failed_goes_on() {
    let only_4k = set(&[12]);
    for work in [1, 100, 1000] {
        let mut world = world();
        let old = world.model.clone();
        world.model.convert(0, 2 * G - 1, only_4k);
        let mut conversion = Conversion::new(range(0, 2 * G - 1), sizes(only_4k));
        let (mut all, mut failures) = (Changes::NONE, 0);
        loop {
            world.arena.until_failure = Some(1 + failures * failures);
            let (changes, result) = conversion.step(&mut world.editor(), work);
            all = all.and(changes);
            match result {
                Ok(Progress::More) => {}
                Ok(Progress::Done) => break,
                Err(error) => {
                    assert_eq!(error, Error::Pages(NoMemory));
                    failures += 1;
                }
            }
        }
        assert!(failures > 3);
        world.check();
        world.check_changes(&old, all);
        world.check_touched(all);
    }
}

#[test]
fn merging_needs_no_memory() {
    let mut world = World::<AmdV1>::new(2);
    world.map(2 * M, 62 * M, 2 * M, IR, set(&[12]));
    world.arena.until_failure = Some(0);
    world.model.convert(0, G - 1, u64::MAX);
    let (changes, _, result) = world.convert(range(0, G - 1), u64::MAX, 1000);
    assert_eq!((result, changes.merges()), (Ok(()), 5));
    world.check();
}

for_each_format! {
    edits_that_fail_change_no_leaf,
}
