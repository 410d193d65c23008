// SPDX-License-Identifier: GPL-2.0

//! The hardware reads entries and sets AD bits during edits.

use std::sync::atomic::{
    AtomicBool,
    AtomicU64,
    Ordering::SeqCst, //
};
use std::thread;

use pgtable_host::pgtable::{
    self,
    Changes,
    Conversion,
    Editor,
    Entries,
    Format,
    Iova,
    IovaRange,
    Phys,
    Progress,
    Table,
    TablePages,
    Tables, //
};

use crate::spec::{
    self,
    AmdV1,
    Spec,
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

/// AD bits that are set while the table is built reach the parts, from any entry of a leaf.
fn parts_of_a_leaf_have_its_marks<S: Spec>() {
    for lg2 in [13, 16, 21, 23, 30].into_iter().filter(|lg2| S::has(*lg2)) {
        for to in [set(&[12]), set(&[12, 20]), set(&[12, 21])] {
            let mut world = World::<S>::new(3);
            let iova = 4u64 << lg2;
            world.leaf(iova, 1 << lg2, lg2);
            world.mark(iova + (1 << lg2) - PAGE, S::DIRTY);
            world.model.split(iova, to);
            let (_, result) = world.editor().split(Iova::new(iova), sizes(to));
            assert_eq!(result, Ok(()));
            world.check();
            assert!(world
                .model
                .tiles
                .iter()
                .all(|tile| tile.ad_bits == S::DIRTY));
        }
    }
}

fn marks_that_appear_during_a_split_are_kept<S: Spec>() {
    for lg2 in [21, 22, 30].into_iter().filter(|lg2| S::has(*lg2)) {
        let mut world = World::<S>::new(3);
        let iova = 4u64 << lg2;
        world.leaf(iova, 1 << lg2, lg2);
        world.arena.mark_on_alloc = S::DIRTY;
        let only_4k = set(&[12]);
        let (_, result) = world.editor().split(Iova::new(iova), sizes(only_4k));
        assert_eq!(result, Ok(()));
        world.model.split(iova, only_4k);
        for tile in &mut world.model.tiles {
            tile.ad_bits = S::DIRTY;
        }
        world.check();
    }
}

fn a_leaf_has_the_marks_of_its_parts<S: Spec>() {
    for page in [0, 1, 511, 512, 1023] {
        let mut world = World::<S>::new(2);
        world.map(0, 8 << 20, 0, S::READ | S::WRITE, set(&[12]));
        world.mark(page * PAGE, S::DIRTY);
        let all = range(0, (8 << 20) - 1);
        for to in [set(&[12, 21]), set(&[12, 21, 22]), set(&[12, 21, 22, 23])] {
            let (_, _, result) = world.convert(all, to, 1000);
            assert_eq!(result, Ok(()));
            world.model.convert(0, (8 << 20) - 1, to);
            world.check();
        }
    }
}

/// Memory for tables that threads share. A page is not used again, so a device may continue in a
/// retired table.
struct Shared {
    pages: Vec<Entries>,
    used: AtomicU64,
}

impl Shared {
    fn new(pages: usize) -> Self {
        let empty = || [const { AtomicU64::new(0) }; 512];
        Self {
            pages: std::iter::repeat_with(empty).take(pages).collect(),
            used: AtomicU64::new(1),
        }
    }

    /// A level-1 table at 0 with leaves of 2M, mapped to their IOVA plus `DISTANCE`.
    fn with_leaves(pages: usize, leaves: u64) -> Self {
        let shared = Self::new(pages);
        for n in 0..leaves {
            let leaf = AmdV1::leaf((n << 21) + DISTANCE, 21, IR | IW, 1);
            shared.page(0)[spec::index(n << 21, 1)].store(leaf, SeqCst);
        }
        shared
    }

    fn page(&self, phys: u64) -> &Entries {
        &self.pages[usize::try_from(phys / PAGE).unwrap()]
    }

    /// The entry that translates `iova`, and the physical address.
    fn walk(&self, iova: u64) -> Option<(&AtomicU64, u64)> {
        let (mut table, mut level) = (self.page(0), 1);
        loop {
            let word = &table[spec::index(iova, level)];
            match AmdV1::read(word.load(SeqCst), level, 0) {
                Word::Absent => return None,
                Word::Table(phys, below) => (table, level) = (self.page(phys), below),
                Word::Leaf(phys, lg2, _) => return Some((word, phys | iova & ((1 << lg2) - 1))),
            }
        }
    }

    /// Converts the first `bytes`.
    fn convert(&self, bytes: u64, to: u64) -> Changes {
        let mut pages = self;
        let format = pgtable::AmdV1::PLAIN;
        let top = format.top(0, 2).unwrap();
        let all = IovaRange::with_len(Iova::ZERO, bytes).unwrap();
        let mut editor = Editor::new(&mut pages, top, format);
        let mut conversion = Conversion::new(all, sizes(to));
        let (changes, result) = conversion.step(&mut editor, u32::MAX);
        assert_eq!(result, Ok(Progress::Done));
        changes
    }
}

impl Tables for &Shared {
    fn entries(&self, table: Table) -> &Entries {
        self.page(table.phys().get())
    }
}

impl TablePages for &Shared {
    type Error = ();

    fn alloc(&mut self) -> Result<Table, ()> {
        let phys = PAGE * self.used.fetch_add(1, SeqCst);
        Table::new(Phys::new(phys).unwrap()).ok_or(())
    }

    fn retire(&mut self, _: Table) {}

    fn discard(&mut self, _: Table) {}
}

/// Physical address minus IOVA.
const DISTANCE: u64 = 512 << 21;

/// A device writes to one address after the other while 2M and 4M leaves are converted into each
/// other: every access succeeds, and no AD bit is lost.
#[test]
fn a_device_that_writes_meanwhile() {
    let shared = Shared::with_leaves(1, 256);
    let done = AtomicBool::new(false);
    let changed = AtomicU64::new(0);

    thread::scope(|scope| {
        scope.spawn(|| {
            // At least until enough has changed.
            for round in 0u64.. {
                if round >= 2000 && changed.load(SeqCst) > 1000 {
                    break;
                }
                for n in 0..128 {
                    let iova = (n << 22) + (round * 7919 * PAGE) % (1 << 22);
                    let (word, phys) = shared.walk(iova).expect("the device faulted");
                    assert_eq!(phys, iova + DISTANCE, "the device went astray");
                    if round == 13 * n {
                        word.fetch_or(DIRTY, SeqCst);
                    }
                }
            }
            done.store(true, SeqCst);
        });

        while !done.load(SeqCst) {
            for to in [set(&[12, 21, 22]), set(&[12, 21])] {
                let changes = shared.convert(256 << 21, to);
                changed.fetch_add(changes.splits() + changes.merges(), SeqCst);
            }
        }
    });

    for n in 0..128u64 {
        let halves = [n << 22, (n << 22) + (1 << 21)];
        let dirty = halves
            .iter()
            .any(|iova| shared.walk(*iova).unwrap().0.load(SeqCst) & DIRTY != 0);
        assert!(dirty, "a mark was lost at {n}");
    }
}

/// A device sets the AD bits of one entry repeatedly during conversions: no bit is lost between
/// load and store of the entry. (Adjacent instructions leave too little time for the test to detect
/// that.)
#[test]
fn no_mark_is_lost_in_an_exchange() {
    let shared = Shared::with_leaves(1, 2);
    let done = AtomicBool::new(false);

    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100_000 {
                for to in [set(&[12, 21, 22]), set(&[12, 21])] {
                    assert!(shared.convert(2 << 21, to).touched().is_some());
                }
            }
            done.store(true, SeqCst);
        });

        let word = &shared.page(0)[0];
        while !done.load(SeqCst) {
            word.fetch_or(DIRTY, SeqCst);
            // Time for a store in progress.
            for _ in 0..20 {
                std::hint::spin_loop();
            }
            assert_ne!(word.load(SeqCst) & DIRTY, 0, "a mark was lost");
            word.fetch_and(!DIRTY, SeqCst);
        }
    });
}

/// The same while tables are added and removed.
#[test]
fn a_device_gets_through_whatever_the_leaves_are() {
    const ROUNDS: usize = 400;
    // 8M, converted to 4K twice per round, which needs 4 tables.
    let shared = Shared::with_leaves(1 + 8 * ROUNDS, 4);
    let done = AtomicBool::new(false);

    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                for to in [set(&[12]), set(&[12, 21]), set(&[12, 16]), u64::MAX] {
                    let changes = shared.convert(4 << 21, to);
                    assert!(changes.touched().is_some());
                }
            }
            done.store(true, SeqCst);
        });

        let mut page = 0;
        while !done.load(SeqCst) {
            page = (page + 7919) % 2048;
            let iova = page * PAGE;
            let (_, phys) = shared.walk(iova).expect("the device faulted");
            assert_eq!(phys, iova + DISTANCE, "the device went astray");
        }
    });
}

/// While the hardware may be noting writes elsewhere, what an edit makes is dirty; what it leaves as it
/// is, is not.
fn what_is_edited_while_tracked_is_dirty<S: Spec>() {
    let mut world = World::<S>::new(3);
    for block in 0..4 {
        world.leaf(block << 21, (8 + block) << 21, 21);
    }
    let dirty = |world: &mut World<S>| {
        let mut found = Vec::new();
        world
            .editor()
            .dirty(IovaRange::ALL, |part| found.push(part));
        found
    };

    let (_, result) = world
        .editor()
        .tracked()
        .split(Iova::new(1 << 21), sizes(set(&[12])));
    assert_eq!(result, Ok(()));
    world.arena.settle();
    assert_eq!(dirty(&mut world), [range(1 << 21, (2 << 21) - 1)]);

    let _ = world.bit_editor().take_dirty(IovaRange::ALL, |_| {});
    world.arena.accept();
    assert_eq!(dirty(&mut world), []);
    let mut conversion = Conversion::new(range(0, (4 << 21) - 1), sizes(set(&[12, 21])));
    let (changes, result) = conversion.step(&mut world.editor().tracked(), 100);
    assert_eq!((changes.merges(), result), (1, Ok(Progress::Done)));
    world.arena.settle();
    assert_eq!(dirty(&mut world), [range(1 << 21, (2 << 21) - 1)]);
}

for_each_format! {
    what_is_edited_while_tracked_is_dirty,
    parts_of_a_leaf_have_its_marks,
    marks_that_appear_during_a_split_are_kept,
    a_leaf_has_the_marks_of_its_parts,
}
