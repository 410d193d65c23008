// SPDX-License-Identifier: GPL-2.0

//! Pieces of a gigabyte: which pages are mapped, and at which of them a piece begins. Two bits a page.
//!
//! A piece is what one map request made. It ends where a page is not mapped, or where the next piece
//! begins.

use kernel::prelude::*;

/// Pages of a gigabyte.
pub(crate) const PAGES: usize = 1 << 18;

/// Pages that a chunk has bits for. A piece of a joined mapping has no more, so it lies in two chunks
/// at most.
pub(crate) const MOST: usize = 1 << 13;

const BITS: usize = 64;

/// Words of a chunk for each kind of bit.
const WORDS: usize = MOST / BITS;

const CHUNKS: usize = PAGES / MOST;

/// Pages of a gigabyte that follow one another: the first and the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages {
    /// The first page.
    pub(crate) first: usize,
    /// The last page.
    pub(crate) last: usize,
}

impl Pages {
    /// All pages.
    pub(crate) const ALL: Self = Self {
        first: 0,
        last: PAGES - 1,
    };

    /// All pages up to this one.
    fn up_to(last: usize) -> Self {
        Self { first: 0, last }
    }

    /// The words that have their bits, in their order: the number of each, and those bits.
    fn words(self) -> impl DoubleEndedIterator<Item = (usize, u64)> {
        let Self { first, last } = self;

        // None if the last one is before the first.
        let words = if first <= last {
            first / BITS..last / BITS + 1
        } else {
            0..0
        };
        words.map(move |word| {
            let low = if word == first / BITS {
                first % BITS
            } else {
                0
            };
            let high = if word == last / BITS {
                last % BITS
            } else {
                BITS - 1
            };
            let bits = u64::MAX.wrapping_shl(low as u32)
                & u64::MAX.wrapping_shr((BITS - 1).wrapping_sub(high) as u32);
            (word, bits)
        })
    }
}

/// The bits of [`MOST`] pages: a word for 64 that are mapped, and, behind all of those, a word for 64
/// at which a piece begins. Empty: no page is mapped.
#[derive(Default)]
struct Chunk(KVec<u64>);

impl Chunk {
    fn mapped(&self, word: usize) -> u64 {
        self.0.get(word).copied().unwrap_or(0)
    }

    fn starts(&self, word: usize) -> u64 {
        self.0.get(word.wrapping_add(WORDS)).copied().unwrap_or(0)
    }
}

/// Room for the bits of one more piece, wherever it lies.
pub(crate) struct PieceReservation([Chunk; 2]);

impl PieceReservation {
    /// Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let chunk = || KVec::from_elem(0, 2 * WORDS, GFP_KERNEL_ACCOUNT).map(Chunk);

        Ok(Self([chunk()?, chunk()?]))
    }
}

/// Pieces of a gigabyte. All pages are counted from its start.
///
/// # Invariants
///
/// A piece begins only at a page that is mapped, and at the first one behind a page that is not.
pub(crate) struct Pieces {
    chunks: [Chunk; CHUNKS],
    /// How many pages of each are mapped.
    counts: [u16; CHUNKS],
    pages: usize,
}

impl Pieces {
    /// None.
    pub(crate) fn new() -> Self {
        Self {
            chunks: [(); CHUNKS].map(|()| Chunk::default()),
            counts: [0; CHUNKS],
            pages: 0,
        }
    }

    /// Whether no page is mapped.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Whether there is room for a piece there.
    pub(crate) fn has_room(&self, piece: Pages) -> bool {
        let has_chunk = |page: usize| {
            let chunk = self.chunks.get(page / MOST);
            chunk.is_some_and(|chunk| !chunk.0.is_empty())
        };

        has_chunk(piece.first) && has_chunk(piece.last)
    }

    /// Has room for a piece there. What is not needed stays with `room`.
    pub(crate) fn make_room(&mut self, piece: Pages, room: &mut PieceReservation) {
        for (page, new) in [piece.first, piece.last].into_iter().zip(&mut room.0) {
            if let Some(chunk) = self.chunks.get_mut(page / MOST) {
                if chunk.0.is_empty() {
                    core::mem::swap(chunk, new);
                }
            }
        }
    }

    /// Adds a piece, for which there is room, where nothing is mapped.
    pub(crate) fn add(&mut self, piece: Pages) {
        for (word, bits) in piece.words() {
            let start = if word == piece.first / BITS {
                1u64.wrapping_shl((piece.first % BITS) as u32)
            } else {
                0
            };
            let (mapped, starts) = self.word(word);
            self.put(word, mapped | bits, starts | start);
        }
    }

    /// Takes out what is mapped of `pages`; what a piece has behind them is one of its own then. Returns
    /// how many pages that was.
    pub(crate) fn remove(&mut self, pages: Pages) -> usize {
        let mut removed = 0usize;

        for (word, bits) in pages.words() {
            let (mapped, starts) = self.word(word);
            if mapped & bits != 0 {
                removed = removed.wrapping_add((mapped & bits).count_ones() as usize);
                self.put(word, mapped & !bits, starts & !bits);
            }
        }
        // What a piece began with may be removed.
        self.begin_at(pages.last.wrapping_add(1));
        removed
    }

    /// If `page` is mapped a piece begins there.
    fn begin_at(&mut self, page: usize) {
        let bit = 1u64.wrapping_shl((page % BITS) as u32);
        let (mapped, starts) = self.word(page / BITS);

        self.put(page / BITS, mapped, starts | bit & mapped);
    }

    /// Which pages of a word are mapped, and at which of them a piece begins.
    fn word(&self, word: usize) -> (u64, u64) {
        self.chunks.get(word / WORDS).map_or((0, 0), |chunk| {
            (chunk.mapped(word % WORDS), chunk.starts(word % WORDS))
        })
    }

    /// Puts the bits of a word, for which there is room.
    fn put(&mut self, word: usize, mapped: u64, starts: u64) {
        let (chunk, within) = (word / WORDS, word % WORDS);
        let Some((words, count)) = self.chunks.get_mut(chunk).zip(self.counts.get_mut(chunk))
        else {
            return;
        };
        let before = words.mapped(within).count_ones();
        let now = mapped.count_ones();

        if let Some(place) = words.0.get_mut(within) {
            *place = mapped;
            *count = count.wrapping_add(now as u16).wrapping_sub(before as u16);
            self.pages = self
                .pages
                .wrapping_add(now as usize)
                .wrapping_sub(before as usize);
        }
        if let Some(place) = words.0.get_mut(within.wrapping_add(WORDS)) {
            *place = starts;
        }
    }

    fn is_mapped(&self, page: usize) -> bool {
        let bit = 1u64.wrapping_shl((page % BITS) as u32);

        page < PAGES && self.word(page / BITS).0 & bit != 0
    }

    /// Whether a page is mapped and no piece begins there: one goes on.
    pub(crate) fn goes_on_at(&self, page: usize) -> bool {
        let bit = 1u64.wrapping_shl((page % BITS) as u32);

        self.is_mapped(page) && self.word(page / BITS).1 & bit == 0
    }

    /// Whether a piece lies in `pages` in part and in part before or behind them.
    pub(crate) fn are_cut_by(&self, pages: Pages) -> bool {
        self.goes_on_at(pages.first) || self.goes_on_at(pages.last.wrapping_add(1))
    }

    /// Whether all of `pages` are mapped.
    pub(crate) fn are_all_in(&self, pages: Pages) -> bool {
        pages
            .words()
            .all(|(word, bits)| self.word(word).0 & bits == bits)
    }

    /// The first of `pages` that is mapped.
    pub(crate) fn first_in(&self, pages: Pages) -> Option<usize> {
        self.parts_of(pages).find_map(|part| {
            part.words().find_map(|(word, bits)| {
                let found = self.word(word).0 & bits;
                (found != 0).then(|| first_of(word, found))
            })
        })
    }

    /// The last of `pages` that is mapped.
    pub(crate) fn last_in(&self, pages: Pages) -> Option<usize> {
        self.parts_of(pages).rev().find_map(|part| {
            part.words().rev().find_map(|(word, bits)| {
                let found = self.word(word).0 & bits;
                (found != 0).then(|| last_of(word, found))
            })
        })
    }

    /// The parts of `pages` in chunks of which any page is mapped.
    fn parts_of(&self, pages: Pages) -> impl DoubleEndedIterator<Item = Pages> + '_ {
        let Pages { first, last } = pages;
        let is_used = |chunk: &usize| self.counts.get(*chunk).is_some_and(|count| *count != 0);

        (first / MOST..last / MOST + 1)
            .filter(is_used)
            .map(move |chunk| {
                let start = chunk.wrapping_mul(MOST);
                Pages {
                    first: first.max(start),
                    last: last.min(start.wrapping_add(MOST - 1)),
                }
            })
    }

    /// From where on all pages are mapped up to `page`, which is.
    pub(crate) fn first_mapped(&self, page: usize) -> usize {
        let hole = Pages::up_to(page).words().rev().find_map(|(word, bits)| {
            let free = !self.word(word).0 & bits;
            (free != 0).then(|| last_of(word, free))
        });

        hole.map_or(0, |hole| hole.wrapping_add(1)).min(page)
    }

    /// How far pages are mapped from `page` on, which is: the last of them.
    pub(crate) fn last_mapped(&self, page: usize) -> usize {
        self.last_before(page, |mapped, _| !mapped)
    }

    /// The first page of the piece that has `page`, which is mapped.
    pub(crate) fn first_of_piece(&self, page: usize) -> usize {
        let start = Pages::up_to(page).words().rev().find_map(|(word, bits)| {
            let starts = self.word(word).1 & bits;
            (starts != 0).then(|| last_of(word, starts))
        });

        start.unwrap_or(page)
    }

    /// The last page of the piece that has `page`, which is mapped.
    pub(crate) fn last_of_piece(&self, page: usize) -> usize {
        self.last_before(page, |mapped, starts| !mapped | starts)
    }

    /// The last page from `page` on before one with a bit that `end` makes of a word's.
    fn last_before(&self, page: usize, end: impl Fn(u64, u64) -> u64) -> usize {
        // None if there is nothing behind the last page.
        let behind = Pages {
            first: page.wrapping_add(1),
            ..Pages::ALL
        };
        let end = behind.words().find_map(|(word, bits)| {
            let (mapped, starts) = self.word(word);
            let found = end(mapped, starts) & bits;
            (found != 0).then(|| first_of(word, found))
        });

        end.unwrap_or(PAGES).saturating_sub(1)
    }
}

/// The page of the lowest of the bits, which are those of a word.
fn first_of(word: usize, bits: u64) -> usize {
    word.wrapping_mul(BITS)
        .wrapping_add(bits.trailing_zeros() as usize)
}

/// The page of the highest of the bits, likewise.
fn last_of(word: usize, bits: u64) -> usize {
    word.wrapping_mul(BITS)
        .wrapping_add(BITS - 1)
        .wrapping_sub(bits.leading_zeros() as usize)
}
