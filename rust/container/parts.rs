// SPDX-License-Identifier: GPL-2.0

//! All mappings in ascending order; joined ones in parts, as a [`Grain`] says.
//!
//! Where a part begins and ends does not depend on the range that is asked for, and is found without a
//! walk over the parts before it: a gigabyte may have 2^18 of them.

use super::{
    joined::JoinedMappings,
    joined_entry::{
        Grain,
        Joined,
        Part,
        BLOCK, //
    },
    mapping::{
        Mapping,
        Mappings, //
    }, //
};
use crate::{
    pgtable::{
        Iova,
        IovaRange,
        PageSize, //
    },
    sys::sched::cond_resched, //
};

impl JoinedMappings {
    /// The first part in `range` of what is mapped: as much as is one joined mapping's, or less, as
    /// `grain` says.
    pub(super) fn next_in(&self, range: IovaRange, grain: Grain) -> Option<Part> {
        let mut left = Some(range);

        while let Some(todo) = left.filter(|_| self.count() != 0) {
            let (key, _) = self.from((todo.start().align_down(BLOCK), 0))?;
            let block = IovaRange::block(key.0, BLOCK).intersect(todo)?;
            let mapped = |joined: &Joined| joined.next_mapped(block);
            let first = self
                .over(block)
                .filter_map(|(_, joined)| Some((mapped(joined)?, joined)))
                .min_by_key(|(first, _)| *first);

            if let Some((first, joined)) = first {
                let mut last = joined.last_from(first, grain)?.min(block.last());
                let others = self
                    .over(block)
                    .filter(|(_, other)| !core::ptr::eq(*other, joined));
                if grain == Grain::Spans {
                    let behind = block.from(first)?;
                    let next = others
                        .filter_map(|(_, other)| other.next_mapped(behind))
                        .min();
                    last = next
                        .and_then(Iova::before)
                        .map_or(last, |end| end.min(last));
                }
                return Some(joined.part(IovaRange::new(first, last)?));
            }
            left = todo.behind(block.last());
        }
        None
    }

    /// Where the part begins that has the last page of `before` or goes on there, which is in one block.
    /// Nothing but joined mappings is in `before`.
    fn start_of_part(&self, before: IovaRange, grain: Grain) -> Option<Iova> {
        let page = before.last().align_down(PageSize::SIZE_4K);
        let nearest = |joined: &Joined| joined.last_mapped(before);
        let (last, joined) = self
            .over(before)
            .filter_map(|(_, joined)| Some((nearest(joined)?, joined)))
            .max_by_key(|(last, _)| *last)?;

        if grain != Grain::Spans {
            return joined.first_to(page, grain).filter(|_| last == page);
        }
        let other = self
            .over(before)
            .filter(|(_, other)| !core::ptr::eq(*other, joined))
            .filter_map(|(_, other)| nearest(other))
            .max();
        let behind = match other {
            Some(other) => before.behind(other.align_last(PageSize::SIZE_4K))?,
            None => before,
        };
        joined.next_mapped(behind)
    }
}

impl Mappings {
    /// The mappings that overlap `range`, and parts of joined mappings, in ascending order.
    pub(crate) fn overlapping(&self, range: IovaRange) -> impl Iterator<Item = Mapping> + '_ {
        self.parts(range, self.grain)
    }

    /// As [`Self::overlapping`], with joined mappings taken apart as `grain` says.
    pub(crate) fn parts(
        &self,
        range: IovaRange,
        grain: Grain,
    ) -> impl Iterator<Item = Mapping> + '_ {
        let mut left = Some(self.around(range, grain));

        core::iter::from_fn(move || {
            cond_resched();
            let todo = left?;
            let single = self.first_in(todo);
            let free = match single {
                Some(single) => single
                    .range
                    .start()
                    .before()
                    .and_then(|last| IovaRange::new(todo.start(), last)),
                None => Some(todo),
            };
            let joined = free.and_then(|free| self.joined.next_in(free, grain));
            let found = joined
                .map(Mapping::from)
                .or_else(|| single.map(Mapping::copy))?;
            left = todo.behind(found.range.last());
            (found.range.start() <= range.last()).then_some(found)
        })
    }

    /// The first part of a joined mapping in `range`, limited to the range.
    pub(crate) fn next_joined(&self, range: IovaRange) -> Option<Mapping> {
        let part = self.joined.next_in(range, self.grain)?;
        let single = self.first_in(part.range);
        let last = single
            .and_then(|single| single.range.start().before())
            .unwrap_or(part.range.last());

        Some(Mapping::from(Part {
            range: IovaRange::new(part.range.start(), last)?,
            ..part
        }))
    }

    /// `range`, and what of joined mappings goes on at its ends.
    fn around(&self, range: IovaRange, grain: Grain) -> IovaRange {
        if self.joined.count() == 0 {
            return range;
        }
        let last = range.last().align_last(BLOCK);
        let start = match self.at(range.start()) {
            Some(_) => None,
            None => self.start_of_part(range.start(), grain),
        };

        IovaRange::new(start.unwrap_or(range.start()), last).unwrap_or(range)
    }

    /// Where the part of a joined mapping begins that goes on at `iova`, which no single mapping has.
    fn start_of_part(&self, iova: Iova, grain: Grain) -> Option<Iova> {
        let block = IovaRange::block(iova, BLOCK);
        let page = IovaRange::block(iova, PageSize::SIZE_4K);
        let behind = match self.last_before(iova) {
            Some(single) => block.behind(single)?,
            None => block,
        };

        self.joined
            .start_of_part(IovaRange::new(behind.start(), page.last())?, grain)
    }
}
