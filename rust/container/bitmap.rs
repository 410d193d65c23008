// SPDX-License-Identifier: GPL-2.0

//! A piece of a bitmap of dirty pages, on its way to userspace.

use kernel::prelude::*;

use crate::{
    pgtable::{
        Iova,
        IovaRange,
        PAGE_BYTES, //
    },
    sys::num::{
        to_u64,
        to_usize, //
    }, //
};

/// Pages that a word has bits of.
pub(super) const WORD: u64 = u64::BITS as u64;

/// Maximum number of words of a piece: 1 MiB, for 32 GiB.
const MOST: usize = 1 << 17;

/// A piece of the bitmap that userspace is to get: a bit for each page.
///
/// As in type1, words in which no mapping has a bit are not written. If a mapping begins in a word, but
/// not with its first bit, the bits that userspace has set there stay set.
///
/// # Invariants
///
/// `bits`, `told` and `kept` have room for the maximum number of pages of a piece.
pub(crate) struct Piece {
    /// The word of the whole bitmap with which it begins.
    first: usize,
    range: IovaRange,
    bits: KVVec<u64>,
    /// A bit for each word that is to be written.
    told: KVVec<u64>,
    /// A bit for each word in which set bits stay set.
    kept: KVVec<u64>,
}

/// Words that follow one another, for userspace.
pub(crate) struct Words<'p> {
    /// The number of the first word in the whole bitmap.
    pub(crate) first: usize,
    /// The words.
    pub(crate) words: &'p [u64],
    /// It is one word, and bits that are set there stay set.
    pub(crate) keep: bool,
}

impl Piece {
    /// Allocates room for any piece of the bitmap of `range`. Call [`Self::begin`] before use.
    pub(crate) fn new(range: IovaRange) -> Result<Self> {
        let words = to_usize(range.pages().div_ceil(WORD)).min(MOST);
        let marks = words.div_ceil(to_usize(WORD));
        let zeroes = |words| KVVec::from_elem(0_u64, words, GFP_KERNEL_ACCOUNT);

        Ok(Self {
            first: 0,
            range,
            bits: zeroes(words)?,
            told: zeroes(marks)?,
            kept: zeroes(marks)?,
        })
    }

    /// Clears it, and makes it the piece at the start of `rest`, which is the rest of `whole`. Returns the
    /// piece's addresses.
    pub(crate) fn begin(&mut self, whole: IovaRange, rest: IovaRange) -> IovaRange {
        let room = u64::try_from(self.bits.len()).unwrap_or(0);
        let bytes = room.saturating_mul(WORD).saturating_mul(PAGE_BYTES);
        let before = rest.start().above(whole.start()) / PAGE_BYTES;

        self.first = to_usize(before / WORD);
        self.range = IovaRange::with_len(rest.start(), bytes)
            .and_then(|piece| piece.intersect(rest))
            .unwrap_or(rest);
        for words in [&mut self.bits, &mut self.told, &mut self.kept] {
            words.fill(0);
        }
        self.range
    }

    /// Adds a mapping, at `part`, behind all others.
    pub(super) fn add_mapping(&mut self, part: IovaRange) {
        let (start, last) = (self.page(part.start()), self.page(part.last()));
        let (first_word, last_word) = (start / WORD, last / WORD);

        if start % WORD != 0 && !has_bit(&self.told, first_word) {
            set_bits(&mut self.kept, first_word, first_word);
        }
        set_bits(&mut self.told, first_word, last_word);
    }

    /// Makes `part` of a mapping dirty.
    pub(super) fn add_dirty(&mut self, part: IovaRange) {
        let (start, last) = (self.page(part.start()), self.page(part.last()));

        set_bits(&mut self.bits, start, last);
    }

    /// The words to write.
    pub(crate) fn words(&self) -> impl Iterator<Item = Words<'_>> {
        let has = |words: &[u64], index: usize| has_bit(words, to_u64(index));
        let mut next = 0usize;

        core::iter::from_fn(move || {
            while next < self.bits.len() && !has(&self.told, next) {
                // Words of which none is told are passed together.
                let none = self.told.get(next / 64).is_none_or(|word| *word == 0);
                let step = if none { 64 - next % 64 } else { 1 };
                next = next.saturating_add(step);
            }
            let start = next;
            let keep = has(&self.kept, start);
            if start >= self.bits.len() {
                return None;
            }
            next = next.saturating_add(1);
            while !keep && next < self.bits.len() && has(&self.told, next) && !has(&self.kept, next)
            {
                next = next.saturating_add(1);
            }
            Some(Words {
                first: self.first.saturating_add(start),
                words: self.bits.get(start..next)?,
                keep,
            })
        })
    }

    /// The dirty parts, in rising order.
    pub(crate) fn dirty(&self) -> impl Iterator<Item = IovaRange> + '_ {
        let pages = self.range.pages();
        let mut next = 0u64;
        let bit = |page: u64| has_bit(&self.bits, page);

        core::iter::from_fn(move || {
            while next < pages && !bit(next) {
                let none = self.bits.get(to_usize(next / WORD)) == Some(&0);
                let step = if none { WORD - next % WORD } else { 1 };
                next = next.saturating_add(step);
            }
            let start = next;
            while next < pages && bit(next) {
                next = next.saturating_add(1);
            }
            let bytes = next.saturating_sub(start).saturating_mul(PAGE_BYTES);
            let at = self
                .range
                .start()
                .checked_add(start.saturating_mul(PAGE_BYTES))?;
            IovaRange::with_len(at, bytes)
        })
    }

    /// The number of the page of `iova` in the piece.
    fn page(&self, iova: Iova) -> u64 {
        iova.above(self.range.start()) / PAGE_BYTES
    }
}

/// Whether a bit is set. A bit that is not there is not.
pub(super) fn has_bit(words: &[u64], bit: u64) -> bool {
    words
        .get(to_usize(bit / WORD))
        .is_some_and(|word| word >> (bit % WORD) & 1 != 0)
}

/// Sets the bits from `first` to `last`, as far as there are any.
pub(super) fn set_bits(words: &mut [u64], first: u64, last: u64) {
    let (first_word, last_word) = (first / WORD, last / WORD);
    let from = u64::MAX << (first % WORD);
    let to = u64::MAX >> (WORD - 1 - last % WORD);
    let (start, end) = (to_usize(first_word), to_usize(last_word));

    for (index, word) in words
        .iter_mut()
        .enumerate()
        .take(end.saturating_add(1))
        .skip(start)
    {
        let mut mask = u64::MAX;
        if index == start {
            mask &= from;
        }
        if index == end {
            mask &= to;
        }
        *word |= mask;
    }
}
