// SPDX-License-Identifier: GPL-2.0

//! Memory for tables that checks every store.
//!
//! The core accesses a table only through [`Tables::entries`]. So at each call of any method, only
//! the table that was handed out before can have changed. The arena then checks it: at most one
//! entry has changed in a table that the hardware sees, and every address that the entry translates
//! still translates the same. The hardware sees a table from the store that links it to the store
//! that unlinks it.
//!
//! Where the hardware does not snoop the CPU caches, a store is certainly in memory after the write
//! back, and possibly before: a cache may write back at any time. So a table, and all below it,
//! must be in memory when a store links it; and each store must be in memory at the end of the
//! operation, when the IOTLB is flushed.

mod outside;

pub use self::outside::Meddling;

use std::array;
use std::cell::{
    Cell,
    RefCell, //
};
use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicU64,
    Ordering::SeqCst, //
};

use pgtable_host::pgtable::{
    Entries,
    Format,
    Phys,
    Table,
    TablePages,
    Tables, //
};

use crate::spec::{
    self,
    Spec,
    Word,
    PAGE, //
};

/// The "physical" address of the first table page.
const BASE: u64 = 0x7_0000_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// From `alloc`, or the root.
    Live,
    /// Unlinked. The hardware may read it until the next flush.
    Retired,
    Free,
}

/// The position of a table that the hardware sees, and its contents at the last check.
struct Place {
    level: u8,
    /// The first address that it translates.
    base: u64,
    words: Box<[u64; 512]>,
}

/// No memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

struct Page {
    words: Box<Entries>,
    /// The entries that were written back.
    memory: RefCell<Box<[u64; 512]>>,
    state: State,
    /// Its position, if the hardware sees it.
    place: RefCell<Option<Place>>,
    ever_seen: Cell<bool>,
}

impl Page {
    fn new() -> Self {
        Self {
            words: Box::new([const { AtomicU64::new(0) }; 512]),
            memory: RefCell::new(Box::new([0; 512])),
            state: State::Live,
            place: RefCell::new(None),
            ever_seen: Cell::new(false),
        }
    }

    fn word(&self, index: usize) -> u64 {
        self.words[index].load(SeqCst)
    }

    /// All entries.
    fn copy(&self) -> Box<[u64; 512]> {
        Box::new(array::from_fn(|index| self.word(index)))
    }

    /// Whether all stores are in memory.
    fn is_written_back(&self) -> bool {
        *self.copy() == **self.memory.borrow()
    }

    fn is_seen(&self) -> bool {
        self.place.borrow().is_some()
    }
}

pub struct Arena<S> {
    _spec: PhantomData<S>,
    pages: Vec<Page>,
    handed_out: Cell<Option<usize>>,
    root: (usize, u8),
    c_bit: u64,
    /// Number of allocations that succeed before one fails.
    pub until_failure: Option<usize>,
    /// AD bits that the hardware sets in every leaf during an allocation.
    pub mark_on_alloc: u64,
    /// What happens to an address after the core has visited this many tables.
    pub meddling: Cell<Option<(usize, u64, Meddling)>>,
    /// An entry was unmapped during an edit: the edit may map it again.
    is_broken: Cell<bool>,
    /// Stores up to [`Self::accept`] may change translations.
    pub maps: Cell<bool>,
    /// Stores are not checked before [`Self::accept`]: bits of many leaves change at once.
    pub unseen: Cell<bool>,
    /// Number of stores in tables that the hardware sees.
    pub stores: Cell<usize>,
    /// The first and the last address that the stored entries translate.
    pub stored: Cell<Option<(u64, u64)>>,
    /// Number of tables that the core asked for.
    pub visits: Cell<usize>,
}

impl<S: Spec> Arena<S> {
    pub fn new(level: u8, c_bit: u64) -> Self {
        let arena = Self {
            _spec: PhantomData,
            pages: vec![Page::new()],
            handed_out: Cell::new(None),
            root: (0, level),
            c_bit,
            until_failure: None,
            mark_on_alloc: 0,
            meddling: Cell::new(None),
            is_broken: Cell::new(false),
            maps: Cell::new(false),
            unseen: Cell::new(false),
            stores: Cell::new(0),
            stored: Cell::new(None),
            visits: Cell::new(0),
        };
        arena.link(0, level, 0);
        arena
    }

    pub fn root(&self) -> u64 {
        BASE
    }

    fn new_page(&mut self) -> usize {
        self.pages.push(Page::new());
        self.pages.len() - 1
    }

    fn slot(phys: u64) -> usize {
        assert!(phys >= BASE && phys % PAGE == 0, "{phys:#x} is no table");
        ((phys - BASE) / PAGE).try_into().unwrap()
    }

    fn link(&self, slot: usize, level: u8, base: u64) {
        let page = &self.pages[slot];
        assert_eq!(page.state, State::Live, "a table linked that is not live");
        self.check_written_back(page);
        let words = page.copy();
        for (index, word) in (0u64..).zip(words.iter()) {
            if let Word::Table(phys, below) = S::read(*word, level, self.c_bit) {
                let base = base + (index << spec::shift(level));
                self.link(Self::slot(phys), below, base);
            }
        }
        let place = Place { level, base, words };
        let twice = page.place.replace(Some(place));
        assert!(twice.is_none(), "a table linked twice");
        page.ever_seen.set(true);
    }

    /// Checks that memory has what the core stored.
    fn check_written_back(&self, page: &Page) {
        let is_read = !S::Format::INCOHERENT || page.is_written_back();
        assert!(is_read, "a table was not written back");
    }

    fn unlink(&self, slot: usize) {
        let place = self.pages[slot].place.take();
        let place = place.expect("a table unlinked twice");
        for word in place.words.iter() {
            if let Word::Table(phys, _) = S::read(*word, place.level, self.c_bit) {
                self.unlink(Self::slot(phys));
            }
        }
    }

    /// Checks the table that was handed out last.
    pub fn look(&self) {
        if self.unseen.get() {
            return;
        }
        let Some(slot) = self.handed_out.take() else {
            return;
        };
        let page = &self.pages[slot];
        let (old, new, level, first, index) = {
            let place = page.place.borrow();
            let Some(place) = place.as_ref() else {
                return;
            };
            let differs = |index: &usize| place.words[*index] != page.word(*index);
            let Some(index) = (0..512).find(differs) else {
                return;
            };
            let more = (index + 1..512).filter(differs).count();
            assert_eq!(more, 0, "more than one store in a table that is seen");
            let first = place.base + ((index as u64) << spec::shift(place.level));
            let (old, new) = (place.words[index], page.word(index));
            (old, new, place.level, first, index)
        };
        self.stores.set(self.stores.get() + 1);
        let last = first + ((1u64 << spec::shift(level)) - 1);
        let (from, to) = self.stored.get().unwrap_or((first, last));
        self.stored.set(Some((from.min(first), to.max(last))));

        let probes = probes(first, spec::shift(level));
        let before: Vec<_> = probes.iter().map(|iova| self.walk_seen(*iova)).collect();
        if let Word::Table(phys, _) = S::read(old, level, self.c_bit) {
            self.unlink(Self::slot(phys));
        }
        if let Word::Table(phys, below) = S::read(new, level, self.c_bit) {
            self.link(Self::slot(phys), below, first);
        }
        page.place.borrow_mut().as_mut().unwrap().words[index] = new;
        for (iova, before) in probes.iter().zip(before) {
            if before.is_some() || !self.is_broken.get() {
                let now = self.walk_seen(*iova);
                assert_eq!(before, now, "{iova:#x} translates otherwise");
            }
        }
    }

    /// Checks the end of an operation: all stores were checked, and every table is in the tree or
    /// was given back.
    pub fn settle(&mut self) {
        self.look();
        for page in self.pages.iter().filter(|page| page.is_seen()) {
            self.check_written_back(page);
        }
        for (slot, page) in self.pages.iter_mut().enumerate() {
            match page.state {
                State::Live => assert!(page.is_seen(), "table {slot} leaked"),
                State::Retired | State::Free => {
                    assert!(!page.is_seen(), "table {slot} given back in use");
                    // The flush.
                    page.state = State::Free;
                }
            }
            if let Some(place) = page.place.borrow().as_ref() {
                let same = (0..512).all(|index| place.words[index] == page.word(index));
                assert!(same, "a store that was not seen");
            }
        }
    }

    /// Takes the present tree as what the hardware sees, after `install` and other changes of
    /// translations.
    pub fn accept(&mut self) {
        self.handed_out.set(None);
        self.maps.set(false);
        self.unseen.set(false);
        for page in &self.pages {
            page.place.replace(None);
        }
        self.link(self.root.0, self.root.1, 0);
        self.stores.set(0);
        self.stored.set(None);
    }

    /// Number of tables.
    pub fn live(&self) -> usize {
        let live = |page: &&Page| page.state == State::Live;
        self.pages.iter().filter(live).count()
    }

    /// Number of tables that wait for a flush.
    pub fn retired(&self) -> usize {
        let retired = |page: &&Page| page.state == State::Retired;
        self.pages.iter().filter(retired).count()
    }
}

/// Addresses in the block of 2^`lg2` bytes at `first`: every page; in a large block the first and
/// the last page of each part.
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

impl<S: Spec> Tables for Arena<S> {
    fn entries(&self, table: Table) -> &Entries {
        self.look();
        self.visits.set(self.visits.get() + 1);
        self.meddle();
        let slot = Self::slot(table.phys().get());
        let page = &self.pages[slot];
        assert_ne!(page.state, State::Free, "a freed table is used");
        self.handed_out.set(Some(slot));
        &page.words
    }
}

impl<S: Spec> TablePages for Arena<S> {
    type Error = NoMemory;

    const WRITES_BACK: bool = S::Format::INCOHERENT;

    fn write_back(&self, entries: &[AtomicU64]) {
        assert!(S::Format::INCOHERENT, "the hardware snoops");
        // The store may be in memory already: check it first.
        let handed_out = self.handed_out.get();
        if !self.maps.get() {
            self.look();
        }
        self.handed_out.set(handed_out);

        let is_in = |page: &Page| page.words.as_ptr_range().contains(&entries.as_ptr());
        let page = self.pages.iter().rfind(|page| is_in(page)).unwrap();
        let first = entries.as_ptr().addr() - page.words.as_ptr().addr();
        let first = first / size_of::<AtomicU64>();
        for index in first..first + entries.len() {
            page.memory.borrow_mut()[index] = page.word(index);
        }
    }

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
        let page = &mut self.pages[Self::slot(table.phys().get())];
        assert_eq!(page.state, State::Live, "retired twice");
        assert!(!page.is_seen(), "retired while linked");
        assert!(page.ever_seen.get(), "retired though it was never seen");
        page.state = State::Retired;
    }

    fn discard(&mut self, table: Table) {
        self.look();
        let page = &mut self.pages[Self::slot(table.phys().get())];
        assert_eq!(page.state, State::Live, "discarded twice");
        assert!(!page.ever_seen.get(), "discarded though it was seen");
        page.state = State::Free;
    }
}
