// SPDX-License-Identifier: GPL-2.0

//! The hardware reads and marks entries while they change.

use std::sync::atomic::{
    AtomicBool,
    AtomicU64,
    Ordering::SeqCst, //
};
use std::thread;

use pgtable_host::pgtable::{
    Conversion,
    Editor,
    Entries,
    Format,
    Iova,
    IovaRange,
    PageSizes,
    Phys,
    Progress,
    Table,
    TablePages,
    Tables,
    Top, //
};

use crate::spec::{
    self,
    Word,
    DIRTY,
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

/// Marks set while the table is being built reach the parts; so do those of any entry of a run.
#[test]
fn parts_of_a_leaf_have_its_marks() {
    for lg2 in [13, 16, 21, 23, 30] {
        for to in [set(&[12]), set(&[12, 20]), set(&[12, 21])] {
            let mut world = World::new(3);
            let iova = 4u64 << lg2;
            world.leaf(iova, 1 << lg2, lg2);
            world.mark(iova + (1 << lg2) - PAGE, DIRTY);
            world.model.split(iova, to);
            let (_, result) = world.editor().split(Iova::new(iova), sizes(to));
            assert_eq!(result, Ok(()));
            world.check();
            assert!(world.model.tiles.iter().all(|tile| tile.marks == DIRTY));
        }
    }
}

#[test]
fn marks_that_appear_during_a_split_are_kept() {
    for lg2 in [21, 22, 30] {
        let mut world = World::new(3);
        let iova = 4u64 << lg2;
        world.leaf(iova, 1 << lg2, lg2);
        world.arena.mark_on_alloc = DIRTY;
        let only_4k = set(&[12]);
        let (_, result) = world.editor().split(Iova::new(iova), sizes(only_4k));
        assert_eq!(result, Ok(()));
        world.model.split(iova, only_4k);
        for tile in &mut world.model.tiles {
            tile.marks = DIRTY;
        }
        world.check();
    }
}

#[test]
fn a_leaf_has_the_marks_of_its_parts() {
    for page in [0, 1, 511, 512, 1023] {
        let mut world = World::new(2);
        world.map(0, 8 << 20, 0, IR | IW, set(&[12]));
        world.mark(page * PAGE, DIRTY);
        let all = range(0, (8 << 20) - 1);
        for to in [set(&[12, 21]), set(&[12, 21, 22]), set(&[12, 21, 22, 23])] {
            let (_, _, result) = world.convert(all, to, 1000);
            assert_eq!(result, Ok(()));
            world.model.convert(0, (8 << 20) - 1, to);
            world.check();
        }
    }
}

/// Memory for tables that threads may share: pages are never used again.
struct Shared;

static PAGES: [Entries; 600] = [const { [const { AtomicU64::new(0) }; 512] }; 600];
static USED: AtomicU64 = AtomicU64::new(1);

fn page(phys: u64) -> &'static Entries {
    &PAGES[usize::try_from(phys / PAGE).unwrap()]
}

impl Tables for Shared {
    fn entries(&self, table: Table) -> &Entries {
        page(table.phys().get())
    }
}

impl TablePages for Shared {
    type Error = ();

    fn alloc(&mut self) -> Result<Table, ()> {
        let phys = PAGE * USED.fetch_add(1, SeqCst);
        Table::new(Phys::new(phys).unwrap()).ok_or(())
    }

    fn retire(&mut self, _: Table) {}

    fn discard(&mut self, _: Table) {}
}

/// The word that translates `iova`, and where that leads.
fn walk(root: &'static Entries, iova: u64) -> Option<(&'static AtomicU64, u64)> {
    let (mut table, mut level) = (root, 1);
    loop {
        let word = &table[spec::index(iova, level)];
        match spec::read(word.load(SeqCst), level, 0) {
            Word::Absent => return None,
            Word::Table(phys, below) => (table, level) = (page(phys), below),
            Word::Leaf(phys, lg2, _) => return Some((word, phys | iova & ((1 << lg2) - 1))),
        }
    }
}

/// A device writes to one address after the other, at its own pace, while leaves of 2M and 4M are
/// made of each other: it always gets through, and no mark is lost.
#[test]
fn a_device_that_writes_meanwhile() {
    const BYTES: u64 = 256 << 21;
    let root = page(0);
    for n in 0..256 {
        let leaf = spec::leaf((512 + n) << 21, 21, IR | IW, 1);
        root[spec::index(n << 21, 1)].store(leaf, SeqCst);
    }
    let top = Top::from_hw_info(0, 2).unwrap();
    let done = AtomicBool::new(false);

    let changes = thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..2000u64 {
                for n in 0..128 {
                    let iova = (n << 22) + (round * 7919 * PAGE) % (1 << 22);
                    let (word, phys) = walk(root, iova).expect("the device faulted");
                    assert_eq!(phys, iova + (512 << 21), "the device went astray");
                    if round == 13 * n {
                        word.fetch_or(DIRTY, SeqCst);
                    }
                }
            }
            done.store(true, SeqCst);
        });

        let mut changes = 0;
        let all = IovaRange::with_len(Iova::ZERO, BYTES).unwrap();
        while !done.load(SeqCst) {
            for to in [set(&[12, 21, 22]), set(&[12, 21])] {
                let mut shared = Shared;
                let mut editor = Editor::new(&mut shared, top, Format::PLAIN);
                let mut conversion = Conversion::new(all, PageSizes::from_bits(to));
                let (change, result) = conversion.step(&mut editor, u32::MAX);
                assert_eq!(result, Ok(Progress::Done));
                changes += change.splits() + change.merges();
            }
        }
        changes
    });

    assert!(changes > 1000, "the leaves hardly changed: {changes}");
    for n in 0..128u64 {
        let halves = [n << 22, (n << 22) + (1 << 21)];
        let dirty = halves
            .iter()
            .any(|iova| walk(root, *iova).unwrap().0.load(SeqCst) & DIRTY != 0);
        assert!(dirty, "a mark was lost at {n}");
    }
}
