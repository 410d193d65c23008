// SPDX-License-Identifier: GPL-2.0

//! Memory for tables that looks at every store.
//!
//! The core gets at a table by [`Tables::entries`] alone. So at each call of any method, what may
//! have been stored since the call before is in the table handed out then. There the arena looks:
//! one entry at most may have changed in a table that the hardware sees, and every address that the
//! entry translates must translate as before. Tables count as seen from the store on that links
//! them to the store on that unlinks them.

use std::cell::{
    Cell,
    RefCell, //
};
use std::collections::{
    BTreeMap,
    BTreeSet, //
};
use std::sync::atomic::{
    AtomicU64,
    Ordering::SeqCst, //
};

use pgtable_host::pgtable::{
    Entries,
    Phys,
    Table,
    TablePages,
    Tables, //
};

use crate::spec::{
    self,
    Word,
    PAGE, //
};

/// Where table pages are in "physical" memory.
const BASE: u64 = 0x7_0000_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Given out by `alloc`, or the root.
    Live,
    /// Unlinked; the hardware may read it until the next flush.
    Retired,
    Free,
}

/// Where a table that the hardware sees is in the tree, and what it held at the last look.
#[derive(Debug, Clone)]
struct Place {
    level: u8,
    /// The first address that it translates.
    base: u64,
    words: Vec<u64>,
}

/// There is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

pub struct Arena {
    pages: Vec<(Box<Entries>, State)>,
    seen: RefCell<BTreeMap<usize, Place>>,
    ever_seen: RefCell<BTreeSet<usize>>,
    handed_out: Cell<Option<usize>>,
    root: (usize, u8),
    c_bit: u64,
    /// Allocations that succeed before one fails.
    pub until_failure: Option<usize>,
    /// Marks that the hardware sets in every leaf while a table is allocated.
    pub mark_on_alloc: u64,
    pub stores: Cell<usize>,
    pub linked: Cell<usize>,
}

impl Arena {
    pub fn new(level: u8, c_bit: u64) -> Self {
        let mut arena = Self {
            pages: Vec::new(),
            seen: RefCell::default(),
            ever_seen: RefCell::default(),
            handed_out: Cell::new(None),
            root: (0, level),
            c_bit,
            until_failure: None,
            mark_on_alloc: 0,
            stores: Cell::new(0),
            linked: Cell::new(0),
        };
        arena.new_page();
        arena.link(0, level, 0);
        arena
    }

    pub fn root(&self) -> u64 {
        BASE
    }

    pub fn c_bit(&self) -> u64 {
        self.c_bit
    }

    fn new_page(&mut self) -> usize {
        let zeroed: Entries = [const { AtomicU64::new(0) }; 512];
        self.pages.push((Box::new(zeroed), State::Live));
        self.pages.len() - 1
    }

    fn slot(phys: u64) -> usize {
        assert!(phys >= BASE && phys % PAGE == 0, "{phys:#x} is no table");
        ((phys - BASE) / PAGE).try_into().unwrap()
    }

    fn words(&self, slot: usize) -> Vec<u64> {
        self.pages[slot]
            .0
            .iter()
            .map(|word| word.load(SeqCst))
            .collect()
    }

    fn link(&self, slot: usize, level: u8, base: u64) {
        assert_eq!(
            self.pages[slot].1,
            State::Live,
            "a table linked that is not live"
        );
        let words = self.words(slot);
        self.linked.set(self.linked.get() + 1);
        for (index, word) in (0u64..).zip(&words) {
            if let Word::Table(phys, below) = spec::read(*word, level, self.c_bit) {
                self.link(
                    Self::slot(phys),
                    below,
                    base + (index << spec::shift(level)),
                );
            }
        }
        let place = Place { level, base, words };
        let twice = self.seen.borrow_mut().insert(slot, place);
        assert!(twice.is_none(), "a table linked twice");
        self.ever_seen.borrow_mut().insert(slot);
    }

    fn unlink(&self, slot: usize) {
        let place = self
            .seen
            .borrow_mut()
            .remove(&slot)
            .expect("a table unlinked twice");
        for word in place.words {
            if let Word::Table(phys, _) = spec::read(word, place.level, self.c_bit) {
                self.unlink(Self::slot(phys));
            }
        }
    }

    /// The leaf that the hardware finds in the tables as they were at the last look.
    fn walk_seen(&self, iova: u64) -> Option<(u64, u64)> {
        let seen = self.seen.borrow();
        let mut place = &seen[&self.root.0];
        loop {
            match spec::read(
                place.words[spec::index(iova, place.level)],
                place.level,
                self.c_bit,
            ) {
                Word::Absent => return None,
                Word::Table(phys, _) => place = &seen[&Self::slot(phys)],
                Word::Leaf(phys, lg2, rest) => return Some((phys | iova & ((1 << lg2) - 1), rest)),
            }
        }
    }

    /// What the hardware reads for `iova`: address, other bits, exponent of the leaf's size, marks
    /// of the one entry that it reads.
    pub fn walk(&self, iova: u64) -> Option<(u64, u64, u32, u64)> {
        let (mut slot, mut level) = self.root;
        loop {
            assert_eq!(self.pages[slot].1, State::Live, "a walk into a dead table");
            let word = self.pages[slot].0[spec::index(iova, level)].load(SeqCst);
            match spec::read(word, level, self.c_bit) {
                Word::Absent => return None,
                Word::Table(phys, below) => (slot, level) = (Self::slot(phys), below),
                Word::Leaf(phys, lg2, rest) => {
                    let exact = phys | iova & ((1 << lg2) - 1);
                    return Some((exact, rest, lg2, word & spec::MARKS));
                }
            }
        }
    }

    /// Looks at what the core may have stored since the last call.
    pub fn look(&self) {
        let Some(slot) = self.handed_out.take() else {
            return;
        };
        let Some(old) = self.seen.borrow().get(&slot).cloned() else {
            return;
        };
        let new = self.words(slot);
        let differing: Vec<usize> = (0..512).filter(|i| old.words[*i] != new[*i]).collect();
        let Some(&index) = differing.first() else {
            return;
        };
        assert_eq!(
            differing.len(),
            1,
            "more than one store in a table that is seen"
        );
        self.stores.set(self.stores.get() + 1);

        let first = old.base + ((index as u64) << spec::shift(old.level));
        let probes = probes(first, spec::shift(old.level));
        let before: Vec<_> = probes.iter().map(|iova| self.walk_seen(*iova)).collect();
        if let Word::Table(phys, _) = spec::read(old.words[index], old.level, self.c_bit) {
            self.unlink(Self::slot(phys));
        }
        if let Word::Table(phys, below) = spec::read(new[index], old.level, self.c_bit) {
            self.link(Self::slot(phys), below, first);
        }
        self.seen.borrow_mut().get_mut(&slot).unwrap().words = new;
        for (iova, before) in probes.iter().zip(before) {
            assert_eq!(
                before,
                self.walk_seen(*iova),
                "{iova:#x} translates otherwise"
            );
        }
    }

    /// What must hold when an operation is over: nothing was stored unseen, and every table is
    /// either part of the tree or was given back.
    pub fn settle(&mut self) {
        self.look();
        for (slot, (_, state)) in self.pages.iter_mut().enumerate() {
            let seen = self.seen.borrow().contains_key(&slot);
            match *state {
                State::Live => assert!(seen, "table {slot} leaked"),
                State::Retired | State::Free => assert!(!seen, "table {slot} given back in use"),
            }
            // The flush.
            if *state == State::Retired {
                *state = State::Free;
            }
        }
        for (slot, place) in self.seen.borrow().iter() {
            assert_eq!(self.words(*slot), place.words, "a store that was not seen");
        }
    }

    pub fn live(&self) -> usize {
        self.pages
            .iter()
            .filter(|(_, state)| *state == State::Live)
            .count()
    }

    /// As the driver does: writes a leaf, with the tables above it.
    pub fn install(&mut self, iova: u64, phys: u64, lg2: u32, rest: u64) {
        let target = spec::level_of(lg2);
        let (mut slot, mut level) = self.root;
        assert!(target <= level, "the top is too low for this leaf");
        while level > target {
            let index = spec::index(iova, level);
            let word = self.pages[slot].0[index].load(SeqCst);
            slot = match spec::read(word, level, self.c_bit) {
                Word::Table(phys, _) => Self::slot(phys),
                Word::Leaf(..) => panic!("{iova:#x} is mapped already"),
                Word::Absent => {
                    let new = self.new_page();
                    let phys = BASE + PAGE * new as u64;
                    self.pages[slot].0[index]
                        .store(spec::table(phys, level - 1, self.c_bit), SeqCst);
                    new
                }
            };
            level -= 1;
        }
        let index = spec::index(iova, level);
        for slot in &self.pages[slot].0[index..index + (1 << (lg2 - spec::shift(level)))] {
            assert_eq!(slot.load(SeqCst) & 1, 0, "{iova:#x} is mapped already");
            slot.store(spec::leaf(phys, lg2, rest, level), SeqCst);
        }
    }

    /// After `install`s or `mark`s: takes the tree as it is as what the hardware sees.
    pub fn accept(&mut self) {
        self.handed_out.set(None);
        self.seen.borrow_mut().clear();
        self.link(self.root.0, self.root.1, 0);
        self.stores.set(0);
        self.linked.set(0);
    }

    /// As the hardware does: marks the one entry that translates `iova`.
    pub fn mark(&mut self, iova: u64, marks: u64) {
        let (mut slot, mut level) = self.root;
        loop {
            let word = &self.pages[slot].0[spec::index(iova, level)];
            match spec::read(word.load(SeqCst), level, self.c_bit) {
                Word::Absent => return,
                Word::Table(phys, below) => (slot, level) = (Self::slot(phys), below),
                Word::Leaf(..) => {
                    word.fetch_or(marks, SeqCst);
                    if let Some(place) = self.seen.borrow_mut().get_mut(&slot) {
                        place.words[spec::index(iova, level)] |= marks;
                    }
                    return;
                }
            }
        }
    }

    fn mark_all(&mut self, marks: u64) {
        for (slot, place) in self.seen.borrow_mut().iter_mut() {
            for (index, word) in place.words.iter_mut().enumerate() {
                if matches!(spec::read(*word, place.level, self.c_bit), Word::Leaf(..)) {
                    self.pages[*slot].0[index].fetch_or(marks, SeqCst);
                    *word |= marks;
                }
            }
        }
    }
}

/// Addresses in the block of 2^`lg2` bytes at `first`: every page, or where the block is large the
/// first and the last page of each part of it.
fn probes(first: u64, lg2: u32) -> Vec<u64> {
    let pages = 1u64 << (lg2 - 12);
    if pages <= 512 {
        return (0..pages).map(|page| first + page * PAGE).collect();
    }
    let part = (1u64 << lg2) / 512;
    (0..512)
        .flat_map(|n| [first + n * part, first + n * part + (part - PAGE)])
        .collect()
}

impl Tables for Arena {
    fn entries(&self, table: Table) -> &Entries {
        self.look();
        let slot = Self::slot(table.phys().get());
        assert_ne!(self.pages[slot].1, State::Free, "a freed table is used");
        self.handed_out.set(Some(slot));
        &self.pages[slot].0
    }
}

impl TablePages for Arena {
    type Error = NoMemory;

    fn alloc(&mut self) -> Result<Table, NoMemory> {
        self.look();
        if self.mark_on_alloc != 0 {
            self.mark_all(self.mark_on_alloc);
        }
        match &mut self.until_failure {
            Some(0) => return Err(NoMemory),
            Some(left) => *left -= 1,
            None => {}
        }
        let phys = BASE + PAGE * self.new_page() as u64;
        Ok(Table::new(Phys::new(phys).unwrap()).unwrap())
    }

    fn retire(&mut self, table: Table) {
        self.look();
        let slot = Self::slot(table.phys().get());
        assert_eq!(self.pages[slot].1, State::Live, "retired twice");
        assert!(
            !self.seen.borrow().contains_key(&slot),
            "retired while linked"
        );
        self.pages[slot].1 = State::Retired;
    }

    fn discard(&mut self, table: Table) {
        self.look();
        let slot = Self::slot(table.phys().get());
        assert_eq!(self.pages[slot].1, State::Live, "discarded twice");
        assert!(
            !self.ever_seen.borrow().contains(&slot),
            "discarded though it was seen"
        );
        self.pages[slot].1 = State::Free;
    }
}
