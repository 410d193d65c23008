// SPDX-License-Identifier: GPL-2.0

//! Changes to tables by others than the core: the hardware, the driver, and code that breaks the
//! rules.

use std::sync::atomic::Ordering::SeqCst;

use super::{
    Arena,
    Page,
    Place,
    State,
    BASE, //
};
use crate::spec::{
    self,
    Spec,
    Word,
    PAGE, //
};

/// What happens to the entry that translates an address.
#[derive(Debug, Clone, Copy)]
pub enum Meddling {
    /// The hardware sets AD bits.
    Mark(u64),
    /// It is unmapped, which breaks the rules for callers.
    Clear,
}

impl Page {
    /// Stores an entry, and writes it back.
    fn set(&self, index: usize, word: u64) {
        self.words[index].store(word, SeqCst);
        self.memory.borrow_mut()[index] = word;
    }
}

/// The leaf entry that translates an address.
struct Found {
    slot: usize,
    index: usize,
    exact: u64,
    lg2: u32,
    rest: u64,
}

impl<S: Spec> Arena<S> {
    /// The leaf entry that translates `iova`, where `word` reads the tables: the slot and the level
    /// of its table, its index, the start and the size of the leaf, and its other bits.
    fn find(&self, iova: u64, word: impl Fn(&Page, usize) -> u64) -> Option<Found> {
        let (mut slot, mut level) = self.root;
        loop {
            let (page, index) = (&self.pages[slot], spec::index(iova, level));
            assert_eq!(page.state, State::Live, "a walk into a dead table");
            match S::read(word(page, index), level, self.c_bit) {
                Word::Absent => return None,
                Word::Table(phys, below) => (slot, level) = (Self::slot(phys), below),
                Word::Leaf(phys, lg2, rest) => {
                    return Some(Found {
                        slot,
                        index,
                        exact: phys | iova & ((1 << lg2) - 1),
                        lg2,
                        rest,
                    })
                }
            }
        }
    }

    /// The translation of `iova` in the tables as of the last check.
    pub(super) fn walk_seen(&self, iova: u64) -> Option<(u64, u64)> {
        let word = |page: &Page, index: usize| page.place.borrow().as_ref().unwrap().words[index];
        self.find(iova, word).map(|found| (found.exact, found.rest))
    }

    /// The translation of `iova` by the hardware: address, other bits, exponent of the leaf size,
    /// and the AD bits of the entry that it reads.
    pub fn walk(&self, iova: u64) -> Option<(u64, u64, u32, u64)> {
        let found = self.find(iova, Page::word)?;
        let ad_bits = self.pages[found.slot].word(found.index) & S::AD_BITS;
        Some((found.exact, found.rest, found.lg2, ad_bits))
    }

    /// Stores a leaf, and the tables above it, as the driver does.
    pub fn install(&mut self, iova: u64, phys: u64, lg2: u32, rest: u64) {
        let target = spec::level_of(lg2);
        let (mut slot, mut level) = self.root;
        assert!(target <= level, "the top is too low for this leaf");
        while level > target {
            let index = spec::index(iova, level);
            slot = match S::read(self.pages[slot].word(index), level, self.c_bit) {
                Word::Table(phys, _) => Self::slot(phys),
                Word::Leaf(..) => panic!("{iova:#x} is mapped already"),
                Word::Absent => {
                    let new = self.new_page();
                    let phys = BASE + PAGE * new as u64;
                    let word = S::table(phys, level - 1, self.c_bit);
                    self.pages[slot].set(index, word);
                    new
                }
            };
            level -= 1;
        }
        let index = spec::index(iova, level);
        let run = index..index + (1 << (lg2 - spec::shift(level)));
        for index in run {
            let page = &self.pages[slot];
            let old = S::read(page.word(index), level, self.c_bit);
            assert_eq!(old, Word::Absent, "{iova:#x} is mapped already");
            page.set(index, S::leaf(phys, lg2, rest, level));
        }
    }

    /// Changes the entry that translates `iova`, without a check.
    fn poke(&self, iova: u64, new: impl Fn(u64) -> u64) {
        if let Some(Found { slot, index, .. }) = self.find(iova, Page::word) {
            let page = &self.pages[slot];
            let word = new(page.word(index));
            page.words[index].store(word, SeqCst);
            let memory = &mut page.memory.borrow_mut()[index];
            *memory = new(*memory);
            if let Some(place) = page.place.borrow_mut().as_mut() {
                place.words[index] = word;
            }
        }
    }

    /// Sets AD bits in the entry that translates `iova`, as the hardware does.
    pub fn mark(&self, iova: u64, ad_bits: u64) {
        self.poke(iova, |word| word | ad_bits);
    }

    /// Encodes a leaf differently. The translation must be the same.
    pub fn rewrite(&self, iova: u64, word: u64) {
        self.poke(iova, |_| word);
    }

    pub(super) fn mark_all(&self, ad_bits: u64) {
        for page in &self.pages {
            let mut place = page.place.borrow_mut();
            let Some(Place { level, words, .. }) = place.as_mut() else {
                continue;
            };
            let mut memory = page.memory.borrow_mut();
            let all = words.iter_mut().zip(page.words.iter());
            for ((seen, word), memory) in all.zip(memory.iter_mut()) {
                if matches!(S::read(*seen, *level, self.c_bit), Word::Leaf(..)) {
                    word.fetch_or(ad_bits, SeqCst);
                    *seen |= ad_bits;
                    *memory |= ad_bits;
                }
            }
        }
    }

    /// Does what [`Arena::meddling`] says when it is time.
    pub(super) fn meddle(&self) {
        match self.meddling.take() {
            Some((0, iova, Meddling::Mark(ad_bits))) => self.mark(iova, ad_bits),
            Some((0, iova, Meddling::Clear)) => {
                self.is_broken.set(true);
                self.poke(iova, |_| 0);
            }
            Some((visits, iova, what)) => self.meddling.set(Some((visits - 1, iova, what))),
            None => {}
        }
    }
}
