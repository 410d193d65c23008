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

    /// The words that have their bits, in their order: the number of each, and those bits.
    fn words(self) -> impl Iterator<Item = (usize, u64)> {
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
        self.find(pages, Chunk::mapped)
    }

    /// How far pages are mapped from `page` on, which is: the last of them.
    pub(crate) fn last_mapped(&self, page: usize) -> usize {
        let mut left = Pages {
            first: page,
            ..Pages::ALL
        }
        .words();
        let hole = left.find_map(|(word, bits)| {
            let free = !self.word(word).0 & bits;
            (free != 0).then(|| first_of(word, free))
        });

        hole.unwrap_or(PAGES).saturating_sub(1).max(page)
    }

    /// The last page of the piece that has `page`, which is mapped.
    pub(crate) fn last_of_piece(&self, page: usize) -> usize {
        let last = self.last_mapped(page);
        let behind = Pages {
            first: page.wrapping_add(1),
            last,
        };

        // There is nothing behind the last page.
        let next = self.find(behind, Chunk::starts);
        next.map_or(last, |next| next.saturating_sub(1))
    }

    /// The first of `pages`, if there are any, that has a bit of this kind.
    fn find(&self, pages: Pages, kind: impl Fn(&Chunk, usize) -> u64) -> Option<usize> {
        let chunks = self.chunks.iter().zip(self.counts).enumerate();
        let last = pages.last;

        chunks
            .skip(pages.first / MOST)
            .take_while(|(index, _)| index.wrapping_mul(MOST) <= last)
            .filter(|(_, (_, count))| *count != 0)
            .find_map(|(index, (chunk, _))| {
                let start = index.wrapping_mul(MOST);
                let first = pages.first.max(start);
                let last = last.min(start.wrapping_add(MOST - 1));

                Pages { first, last }.words().find_map(|(word, bits)| {
                    let found = kind(chunk, word % WORDS) & bits;
                    (found != 0).then(|| first_of(word, found))
                })
            })
    }
}

/// The page of the lowest of the bits, which are those of a word.
fn first_of(word: usize, bits: u64) -> usize {
    word.wrapping_mul(BITS)
        .wrapping_add(bits.trailing_zeros() as usize)
}
