// SPDX-License-Identifier: GPL-2.0

//! The iterators: leaves, extents, leaf runs.

use pgtable_host::pgtable::{
    Extent,
    Iova,
    LeafRun, //
};

use crate::spec::{
    self,
    FC,
    G,
    IR,
    IW,
    M,
    PAGE, //
};
use crate::world::{
    range,
    set, //
};

type World = crate::world::World<spec::AmdV1>;

fn extents(world: &World, first: u64, last: u64) -> Vec<(u64, u64, u64)> {
    let plain = |e: Extent| (e.range.start().get(), e.range.last().get(), e.phys.get());
    world
        .view()
        .extents(range(first, last))
        .map(plain)
        .collect()
}

fn runs(world: &World, first: u64, last: u64) -> Vec<(u64, u64, u32)> {
    let plain = |r: LeafRun| {
        let size = r.size.lg2().into();
        (r.range.start().get(), r.range.last().get(), size)
    };
    world
        .view()
        .leaf_runs(range(first, last))
        .map(plain)
        .collect()
}

/// A leaf of every size at every level, for ranges that start and end at it, one page before and
/// one page behind.
#[test]
fn one_leaf_of_each_size_at_its_edges() {
    for lg2 in spec::all_sizes() {
        let (iova, phys, bytes) = (3u64 << lg2, 1u64 << lg2, 1u64 << lg2);
        let end = iova + bytes;
        let mut world = World::new(5);
        world.leaf(iova, phys, lg2);

        let leaves = |first: u64, last: u64| world.view().leaves(range(first, last)).count();
        assert_eq!(leaves(iova - PAGE, iova - 1), 0);
        assert_eq!(leaves(iova - PAGE, iova + PAGE - 1), 1);
        assert_eq!(leaves(end - PAGE, end + PAGE - 1), 1);
        assert_eq!(leaves(end, end + PAGE - 1), 0);
        assert_eq!(leaves(0, u64::MAX), 1);

        let leaf = world.view().leaf_at(Iova::new(end - 1)).unwrap();
        assert_eq!((leaf.iova.get(), leaf.phys().get()), (iova, phys));
        let at = |iova: u64| {
            world
                .view()
                .translate(Iova::new(iova))
                .map(|phys| phys.get())
        };
        assert_eq!(at(iova - 1), None);
        assert_eq!(at(iova), Some(phys));
        assert_eq!(at(end - 1), Some(phys + bytes - 1));
        assert_eq!(at(end), None);

        let all = vec![(iova, end - 1, phys)];
        assert_eq!(extents(&world, 0, u64::MAX), all);
        assert_eq!(extents(&world, iova - PAGE, end + PAGE - 1), all);
        let tail = vec![(end - PAGE, end - 1, phys + bytes - PAGE)];
        assert_eq!(extents(&world, end - PAGE, end + PAGE - 1), tail);
        let head = vec![(iova, iova + PAGE - 1, phys)];
        assert_eq!(extents(&world, iova - PAGE, iova + PAGE - 1), head);
        assert_eq!(
            runs(&world, end - PAGE, u64::MAX),
            vec![(iova, end - 1, lg2)]
        );
        world.check();
    }
}

#[test]
fn extents_join_leaves_of_all_sizes_across_tables() {
    let mut world = World::new(3);
    let (first, phys) = (G - 7 * PAGE, 8 * G - 7 * PAGE);
    let bytes = 2 * G + 2 * M + 11 * PAGE;
    world.map(first, bytes, phys, IR | IW, u64::MAX);
    let made: Vec<u32> = world.model.tiles.iter().map(|tile| tile.lg2).collect();
    assert_eq!(made, [12, 13, 14, 30, 30, 21, 14]);
    let last = first + bytes - 1;
    assert_eq!(extents(&world, 0, u64::MAX), vec![(first, last, phys)]);
    // All kinds of positions in all kinds of leaves.
    for start in [
        0,
        PAGE,
        2 * PAGE,
        4 * PAGE,
        7 * PAGE,
        8 * PAGE,
        G / 2 + PAGE,
    ] {
        for end in [0, PAGE, 4 * PAGE, 5 * PAGE, 2 * M, G, G + 8 * M] {
            let part = (first + start, last - end, phys + start);
            assert_eq!(extents(&world, part.0, part.1), vec![part]);
        }
    }
}

#[test]
fn extents_end_where_memory_or_attributes_do() {
    let mut world = World::new(2);
    let only_4k = set(&[12]);
    world.map(0, 2 * M, 16 * M, IR | IW, only_4k);
    world.map(2 * M, 2 * M, 18 * M, IR, only_4k);
    world.map(4 * M, 2 * M, 20 * M, IR | FC, only_4k);
    world.map(6 * M, 2 * M, 20 * M, IR | FC, only_4k);
    world.map(8 * M + PAGE, PAGE, 22 * M + PAGE, IR | FC, only_4k);
    let found = extents(&world, 0, u64::MAX);
    assert_eq!(
        found,
        vec![
            (0, 2 * M - 1, 16 * M),
            (2 * M, 4 * M - 1, 18 * M),
            (4 * M, 6 * M - 1, 20 * M),
            (6 * M, 8 * M - 1, 20 * M),
            (8 * M + PAGE, 8 * M + 2 * PAGE - 1, 22 * M + PAGE),
        ]
    );
    let alike = runs(&world, 0, u64::MAX);
    assert_eq!(
        alike,
        vec![
            (0, 2 * M - 1, 12),
            (2 * M, 4 * M - 1, 12),
            (4 * M, 8 * M - 1, 12),
            (8 * M + PAGE, 8 * M + 2 * PAGE - 1, 12),
        ]
    );
}

#[test]
fn marks_of_the_hardware_end_nothing() {
    let mut world = World::new(2);
    world.map(0, 4 * M, 16 * M, IR | IW, set(&[12]));
    for page in [0, 1, 7, 511, 512, 1023] {
        world.mark(page * PAGE, spec::AD_BITS);
    }
    assert_eq!(extents(&world, 0, u64::MAX), vec![(0, 4 * M - 1, 16 * M)]);
    assert_eq!(runs(&world, 0, u64::MAX), vec![(0, 4 * M - 1, 12)]);
}

/// Pages of a 4K-backed contiguous run are swapped, one after the other: the extents agree with the
/// pages.
#[test]
fn each_break_in_contiguity_is_found() {
    for broken in [0u64, 1, 2, 255, 510, 511, 512, 513, 1023] {
        let mut world = World::new(2);
        for page in 0..1024u64 {
            let phys = if page == broken {
                3 * G
            } else {
                16 * M + page * PAGE
            };
            world.leaf(page * PAGE, phys, 12);
        }
        let mut wanted = Vec::new();
        if broken > 0 {
            wanted.push((0, broken * PAGE - 1, 16 * M));
        }
        wanted.push((broken * PAGE, broken * PAGE + PAGE - 1, 3 * G));
        if broken < 1023 {
            let next = (broken + 1) * PAGE;
            wanted.push((next, 4 * M - 1, 16 * M + next));
        }
        assert_eq!(extents(&world, 0, u64::MAX), wanted, "page {broken}");
        assert_eq!(runs(&world, 0, u64::MAX), vec![(0, 4 * M - 1, 12)]);
    }
}

#[test]
fn like_runs_end_where_sizes_do() {
    let mut world = World::new(2);
    world.map(2 * M, 2 * M, 64 * M, IR, set(&[21]));
    world.map(4 * M, 4 * M, 512 * M, IR, set(&[21]));
    world.map(8 * M, 8 * M, 128 * M, IR, set(&[23]));
    world.map(16 * M, 16 * M, 256 * M, IR, set(&[23]));
    let wanted = vec![(2 * M, 8 * M - 1, 21), (8 * M, 32 * M - 1, 23)];
    assert_eq!(runs(&world, 0, u64::MAX), wanted);
}

#[test]
fn nothing_is_mapped_above_what_the_top_covers() {
    for level in 0..=4 {
        let mut world = World::new(level);
        world.leaf(0, 0, 12);
        let reach = 1u64 << spec::shift(level + 1);
        for iova in [reach, 2 * reach, reach + PAGE] {
            assert_eq!(world.view().translate(Iova::new(iova)), None);
            assert_eq!(world.view().leaves(range(iova, u64::MAX)).count(), 0);
        }
    }
}

#[test]
fn the_last_page_of_all_can_be_mapped() {
    let mut world = World::new(5);
    world.leaf(u64::MAX - (PAGE - 1), 5 * PAGE, 12);
    let wanted = vec![(u64::MAX - (PAGE - 1), u64::MAX, 5 * PAGE)];
    assert_eq!(extents(&world, 0, u64::MAX), wanted);
    assert_eq!(runs(&world, 0, u64::MAX), vec![(wanted[0].0, u64::MAX, 12)]);
}
