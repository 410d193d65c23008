// SPDX-License-Identifier: GPL-2.0

//! Pages that were written and have no dirty bit in any page table: those that emulated devices write,
//! and those that a domain had mapped which was the last one.

use kernel::{
    prelude::*,
    rbtree::RBTree, //
};

use super::bitmap::{
    has_bit,
    set_bits,
    WORD, //
};
use crate::{
    pgtable::{
        Iova,
        IovaRange,
        PAGE_BYTES, //
    },
    sys::sched::cond_resched, //
};

/// Pages that a chunk has bits of: 16 MiB.
const PAGES: u64 = 4096;

/// The bits of so many pages.
type Chunk = [u64; (PAGES / WORD) as usize];

/// Pages that were written. It is empty while dirty tracking is off.
pub(super) struct Written {
    /// The bits of chunks by their numbers.
    chunks: RBTree<u64, Chunk>,
    /// There was no memory for a chunk: all pages count as written until tracking is off.
    all: bool,
}

impl Written {
    /// No page.
    pub(super) fn new() -> Self {
        Self {
            chunks: RBTree::new(),
            all: false,
        }
    }

    /// Adds the pages of `range`. Sleeps.
    pub(super) fn add(&mut self, range: IovaRange) {
        let (first, last) = ends(range);

        for number in first / PAGES..=last / PAGES {
            if self.all {
                return;
            }
            let Some(chunk) = self.chunk(number) else {
                self.all = true;
                return;
            };
            let (from, to) = within(number, first, last);
            set_bits(chunk, from, to);
            cond_resched();
        }
    }

    /// The chunk, which is made if there is none; `None` without memory.
    fn chunk(&mut self, number: u64) -> Option<&mut Chunk> {
        if self.chunks.get(&number).is_none() {
            let clean = [0; (PAGES / WORD) as usize];
            self.chunks
                .try_create_and_insert(number, clean, GFP_KERNEL_ACCOUNT)
                .ok()?;
        }
        self.chunks.get_mut(&number)
    }

    /// Removes the pages of `range`.
    pub(super) fn remove(&mut self, range: IovaRange) {
        let (first, last) = ends(range);
        let mut next = first / PAGES;

        while let Some(number) = self.next_chunk(next, last) {
            let (from, to) = within(number, first, last);
            if to.saturating_sub(from) == PAGES - 1 {
                self.chunks.remove(&number);
            } else if let Some(chunk) = self.chunks.get_mut(&number) {
                let mut mask: Chunk = [0; (PAGES / WORD) as usize];
                set_bits(&mut mask, from, to);
                for (word, mask) in chunk.iter_mut().zip(mask) {
                    *word &= !mask;
                }
            }
            next = number.wrapping_add(1);
        }
    }

    /// Calls `each` with the parts of `range` that were written.
    pub(super) fn each(&self, range: IovaRange, mut each: impl FnMut(IovaRange)) {
        if self.all {
            each(range);
            return;
        }
        let (first, last) = ends(range);
        let mut next = first / PAGES;

        while let Some(number) = self.next_chunk(next, last) {
            let (from, to) = within(number, first, last);
            let chunk = self.chunks.get(&number);
            let is_set = |page: &u64| chunk.is_some_and(|words| has_bit(words, *page));
            for page in (from..=to).filter(is_set) {
                let page = number.wrapping_mul(PAGES).wrapping_add(page);
                let start = Iova::new(page.wrapping_mul(PAGE_BYTES));
                IovaRange::with_len(start, PAGE_BYTES)
                    .into_iter()
                    .for_each(&mut each);
            }
            next = number.wrapping_add(1);
            cond_resched();
        }
    }

    /// The first chunk from number `next` on that has bits of pages up to `last`.
    fn next_chunk(&self, next: u64, last: u64) -> Option<u64> {
        let number = *self.chunks.cursor_lower_bound(&next)?.current().0;

        (number <= last / PAGES).then_some(number)
    }
}

/// The numbers of the first and the last page of `range`.
fn ends(range: IovaRange) -> (u64, u64) {
    (
        range.start().get() / PAGE_BYTES,
        range.last().get() / PAGE_BYTES,
    )
}

/// Which bits of the chunk are those of the pages from `first` to `last`, of which it has some.
fn within(number: u64, first: u64, last: u64) -> (u64, u64) {
    let base = number.wrapping_mul(PAGES);

    (
        first.saturating_sub(base),
        last.wrapping_sub(base).min(PAGES - 1),
    )
}
