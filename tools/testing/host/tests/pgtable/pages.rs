// SPDX-License-Identifier: GPL-2.0

//! Single pages in an existing table.

use pgtable_host::pgtable::{
    self,
    Attrs,
    Error,
    Format,
    Iova,
    Phys, //
};

use crate::arena::NoMemory;
use crate::model::ContigRun;
use crate::spec::{
    AmdV1,
    Spec,
    FC,
    IR,
    IW,
    PAGE, //
};
use crate::world::{
    range,
    World, //
};

fn fill<S: Spec>(
    world: &mut World<S>,
    at: u64,
    pages: &[Phys],
    attrs: Attrs,
) -> Result<bool, Error<NoMemory>> {
    world.mapping_editor().fill(Iova::new(at), attrs, pages)
}

fn fill_maps_scattered_pages_or_refuses<S: Spec>() {
    let mut world = World::<S>::new(2);
    let base = 2u64 << 21;
    let phys: Vec<Phys> = (0..100)
        .map(|n| Phys::new((7 * n + 3) * PAGE).unwrap())
        .collect();
    let changed = |at| Err(Error::Changed(Iova::new(at)));

    // There is no level-0 table yet.
    world.leaf(0, PAGE, 12);
    let attrs = world.view().leaf_at(Iova::new(0)).unwrap().attrs();
    assert_eq!(fill(&mut world, base, &phys, attrs), changed(base));

    world.leaf(base + 400 * PAGE, 9 * PAGE, 12);
    for at in [301, 350, 400, 413, 512 - 99] {
        let at = base + at * PAGE;
        assert_eq!(fill(&mut world, at, &phys, attrs), changed(at));
    }
    let at = base + 12;
    assert_eq!(fill(&mut world, at, &phys[..1], attrs), changed(at));
    // Not the address of a page.
    let between = Phys::new(phys[1].get() + 1).unwrap();
    assert_eq!(
        fill(&mut world, base, &[phys[0], between], attrs),
        changed(base)
    );
    world.check();

    for (first, count) in [(0, 100), (300, 100), (401, 100), (511, 1), (505, 0)] {
        let at = base + first * PAGE;
        assert_eq!(fill(&mut world, at, &phys[..count], attrs), Ok(false));
        // This edit changes translations.
        world.arena.accept();
        for (n, phys) in (0..).zip(&phys[..count]) {
            let (first, rest) = (at + n * PAGE, S::READ | S::WRITE);
            let contig = ContigRun {
                first,
                last: first + (PAGE - 1),
                phys: phys.get(),
                rest,
            };
            world.model.map(contig, PAGE);
        }
        world.check();
    }
}

fn fill_tells_where_a_block_may_be_whole<S: Spec>() {
    for (base, step, whole) in [(8 << 21, 1, true), (8 << 21, 2, false), (PAGE, 1, false)] {
        let mut world = World::<S>::new(2);
        // The first leaf creates a table.
        world.leaf(0, base, 12);
        let attrs = world.view().leaf_at(Iova::new(0)).unwrap().attrs();
        let page = |n: u64| Phys::new(base + n * step * PAGE).unwrap();

        for n in 1..511 {
            let told = fill(&mut world, n * PAGE, &[page(n)], attrs);
            assert_eq!(told, Ok(false), "{n}");
            world.arena.accept();
        }
        let told = fill(&mut world, 511 * PAGE, &[page(511)], attrs);
        assert_eq!(told, Ok(whole), "{base:#x} {step}");
    }
}

#[test]
fn fill_does_not_know_of_larger_leaves() {
    for (at, lg2) in [(0u64, 13u32), (510, 13), (256, 20)] {
        let mut world = World::<AmdV1>::new(2);
        world.leaf(at * PAGE, (at + 1024) * PAGE, lg2);
        let attrs = world.view().leaf_at(Iova::new(at * PAGE)).unwrap().attrs();
        let free = (0..512).filter(|n| !(at..at + (1 << (lg2 - 12))).contains(n));
        let mut told = vec![];

        for n in free {
            let page = Phys::new((1024 + n) * PAGE).unwrap();
            told.push(fill(&mut world, n * PAGE, &[page], attrs));
            world.arena.accept();
        }
        // Both ends are mapped after the last page, or after the first.
        let (last, before) = told.split_last().unwrap();
        assert_eq!(*last, Ok(true));
        let expected = Ok(at != 0);
        assert!(before
            .iter()
            .all(|told| *told == expected || at == 0 && *told == Ok(false)));
    }
}

fn room_is_where_fill_goes<S: Spec>() {
    let mut world = World::<S>::new(2);
    for n in [0, 7] {
        world.leaf(n * PAGE, (n + 1) * PAGE, 12);
    }
    world.leaf(2 << 21, 1 << 30, 21);
    let attrs = world.view().leaf_at(Iova::new(0)).unwrap().attrs();
    let pages: Vec<Phys> = (9..).map_while(|n| Phys::new(n * PAGE)).take(8).collect();

    for (at, count, room) in [
        (0, 1, false),
        (1, 6, true),
        (1, 7, false),
        (7, 1, false),
        (511, 1, true),
        (511, 2, false),
        (512, 1, false),
        (1024, 1, false),
    ] {
        let iova = Iova::new(at * PAGE);
        assert_eq!(world.editor().has_room(iova, count), room, "{at}, {count}");
        let filled = fill(&mut world, at * PAGE, &pages[..count], attrs);
        assert_eq!(filled.is_ok(), room, "{at}, {count}");
        world.arena.accept();
        assert!(!world.editor().has_room(iova, count), "{at}, {count}");
    }
    assert!(!world.editor().has_room(Iova::new(8 * PAGE + 1), 1));
}

fn take_unmaps_4k_leaves_or_refuses<S: Spec>() {
    let mut world = World::<S>::new(2);
    let base = 2u64 << 21;
    let refused = |at| Err(Error::Changed(Iova::new(at)));

    // No table, a 2M leaf, a part of a 64K leaf, a whole one, and more than a table.
    world.leaf(base - (1 << 21), 1 << 30, 21);
    if S::has(16) {
        world.leaf(base + 64 * PAGE, 1 << 20, 16);
    }
    for n in [0u64, 3, 4, 5, 90, 511] {
        world.leaf(base + n * PAGE, (n * 3 + 7) * PAGE, 12);
    }
    for (first, pages) in [
        (base + (2 << 21), 1),
        (base - (1 << 21), 1),
        (base + 511 * PAGE, 2),
        (base + 70 * PAGE, 2),
        (base + 60 * PAGE, 40),
    ]
    .into_iter()
    .take(if S::has(16) { 5 } else { 3 })
    {
        let range = range(first, first + pages * PAGE - 1);
        assert_eq!(
            world.mapping_editor().take(range, |_, _| panic!()),
            refused(first)
        );
    }
    world.check();

    for (first, pages, expected) in [
        (1, 2, &[][..]),
        (0, 5, &[0, 3, 4]),
        (0, 5, &[]),
        (80, 20, &[90]),
        (511, 1, &[511]),
    ] {
        let at = base + first * PAGE;
        let range = range(at, at + pages * PAGE - 1);
        let mut taken = vec![];
        let result = world
            .mapping_editor()
            .take(range, |iova, phys| taken.push((iova.get(), phys.get())));
        assert_eq!(result, Ok(()));
        let expected: Vec<_> = expected
            .iter()
            .map(|n: &u64| (base + n * PAGE, (n * 3 + 7) * PAGE))
            .collect();
        assert_eq!(taken, expected);
        world.arena.accept();
        world.model.unmap(at, at + pages * PAGE - 1);
        world.check();
    }
}

fn empty_tables_go_and_no_others<S: Spec>() {
    let mut world = World::<S>::new(2);
    for block in 0..6u64 {
        world.leaf((block << 21) + 5 * PAGE, (block + 9) * PAGE, 12);
    }
    world.leaf(8 << 21, 1 << 30, 21);
    world.leaf(5 << 30, PAGE, 12);
    for block in [1u64, 2, 4, 5] {
        let at = (block << 21) + 5 * PAGE;
        let page = range(at, at + PAGE - 1);
        assert_eq!(world.mapping_editor().take(page, |_, _| ()), Ok(()));
        world.arena.accept();
        world.model.unmap(at, at + PAGE - 1);
    }
    let tables = world.arena.live();

    // No whole, empty block: part of block 1, and block 0, which is not empty.
    let (changes, left) = world.editor().drop_empty(range(0, (1 << 21) + PAGE - 1));
    assert_eq!((changes.touched(), left), (None, None));
    assert_eq!(world.arena.live(), tables);
    // Blocks 1, 2 and 4; a page of block 5 is mapped.
    let (changes, left) = world.editor().drop_empty(range(PAGE, (6 << 21) - PAGE - 1));
    assert_eq!(left, None);
    assert_eq!(changes.touched(), Some(range(1 << 21, (5 << 21) - 1)));
    assert_eq!(world.arena.retired(), 3);
    world.check();
    world.arena.settle();
    assert_eq!(world.arena.live(), tables - 3);
    // All of it; large holes are skipped at once.
    let (changes, left) = world.editor().drop_empty(range(0, (1 << 39) - 1));
    // Not all at once: 512 tables cover 1G.
    assert_eq!(left, Some(range(1 << 30, (1 << 39) - 1)));
    assert_eq!(changes.touched(), Some(range(5 << 21, (6 << 21) - 1)));
    assert_eq!(world.arena.retired(), 1);
    world.check();
}

#[test]
fn attrs_are_those_of_what_the_driver_maps() {
    let c_bit = 1 << 47;
    for (read, write, flags) in [(true, true, IR | IW), (true, false, IR), (false, true, IW)] {
        let mut world = World::<AmdV1>::encrypted(2, c_bit);
        world.map(0, PAGE, PAGE, flags | c_bit, u64::MAX);
        let mapped = world.view().leaf_at(Iova::new(0)).unwrap().attrs();
        let format = world.format;
        assert_eq!(format.attrs(read, write), Some(mapped));
        let coherent = format.force_coherence(true);
        assert_eq!(
            coherent.attrs(read, write).map(Attrs::bits),
            Some(mapped.bits() | FC)
        );
        assert_eq!(coherent.force_coherence(false), format);
        assert_ne!(pgtable::AmdV1::PLAIN.attrs(read, write), Some(mapped));
    }
}

for_each_format! {
    fill_maps_scattered_pages_or_refuses,
    fill_tells_where_a_block_may_be_whole,
    room_is_where_fill_goes,
    take_unmaps_4k_leaves_or_refuses,
    empty_tables_go_and_no_others,
}
