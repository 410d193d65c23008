// SPDX-License-Identifier: GPL-2.0

//! Unmapping: out of all domains, out of the IOTLB, and only then unpinned.

#![allow(unsafe_code)]

use kernel::prelude::*;

use crate::{
    apply::convert_part,
    container::State,
    domain::{
        first_piece,
        rest,
        Domain,
        PIECE, //
    },
    flush::Flushed,
    mapping::Mapping,
    pgtable::{
        IovaRange,
        PageSize,
        PageSizes, //
    },
    pin::unpin,
    stretch::Stretch, //
};

impl State {
    /// Unmaps all mappings within `range`. Returns how many bytes they had.
    ///
    /// Fails with `EINVAL` if a mapping lies only in part in the range; nothing is unmapped then.
    pub(crate) fn unmap(&mut self, range: IovaRange) -> Result<u64> {
        if self.mappings.crosses_end_of(range) {
            return Err(EINVAL);
        }
        Ok(self.unmap_in(range))
    }

    /// Unmaps all mappings. Returns how many bytes they had.
    pub(crate) fn unmap_all(&mut self) -> u64 {
        self.unmap_in(IovaRange::ALL)
    }

    fn unmap_in(&mut self, range: IovaRange) -> u64 {
        let mut bytes = 0u64;

        while let Some(mapping) = self.mappings.remove_first_in(range) {
            self.clear(&mapping, mapping.range);
            bytes = bytes.wrapping_add(mapping.range.bytes().unwrap_or(0));
            self.avail = self.avail.saturating_add(1);
        }
        bytes
    }

    /// The domain to be read to learn what is mapped. One whose page table we can read ourselves is
    /// the quickest.
    pub(crate) fn source(&self) -> Option<usize> {
        let readable = |domain: &Domain| domain.table().is_some();

        self.domains
            .iter()
            .position(readable)
            .or((!self.domains.is_empty()).then_some(0))
    }

    /// Unmaps and unpins `range`, which is all of `mapping` or all that is mapped of it.
    ///
    /// Can not fail, and allocates nothing.
    pub(crate) fn clear(&mut self, mapping: &Mapping, range: IovaRange) {
        let Some(source) = self.source() else {
            return;
        };
        // What is still mapped somewhere stays pinned, come what may.
        let mut safe = true;
        for (index, domain) in self.domains.iter_mut().enumerate() {
            if index != source {
                safe &= domain.take_back(range);
            }
        }
        let Some(domain) = self.domains.get_mut(source) else {
            return;
        };
        let release = |stretch: &Stretch, flushed: &Flushed<'_>| {
            if safe {
                // SAFETY: By the invariants the pages of a mapping are pinned once if they are
                // memory, and they are in no domain any more.
                unsafe {
                    unpin(
                        stretch.phys,
                        stretch.range.pages(),
                        mapping.access.write,
                        mapping.mixed,
                        flushed,
                    )
                };
            }
        };

        let found = &mut self.scratch.stretches;
        if domain.watches().hold_in(range) {
            clear_around_holes(domain, range, found, release);
        } else {
            clear_whole(domain, range, found, release);
        }
        domain.watches_mut().remove_in(range);
    }
}

/// Unmaps `range`, in which there is no hole, and has what was there released.
fn clear_whole(
    domain: &Domain,
    range: IovaRange,
    found: &mut KVVec<Stretch>,
    mut release: impl FnMut(&Stretch, &Flushed<'_>),
) {
    let mut safe = true;
    let mut left = Some(range);

    while let Some(piece) = left.and_then(|todo| domain.stretches(todo, found)) {
        merge(domain, found);
        let (unmapped, flushed) = domain.flushed(|gather| gather.unmap(piece));
        safe &= !kernel::warn_on!(Some(unmapped) != piece.bytes());
        if safe {
            found.iter().for_each(|stretch| release(stretch, &flushed));
        }
        left = range.behind(piece.last());
        rest();
    }
}

/// The same where the hook had to unmap leaves: stretch by stretch. What is not in the page table is
/// in the domain's watches.
fn clear_around_holes(
    domain: &Domain,
    range: IovaRange,
    found: &mut KVVec<Stretch>,
    mut release: impl FnMut(&Stretch, &Flushed<'_>),
) {
    let mut left = Some(range);

    while let Some(todo) = left {
        let piece = domain.stretches(todo, found);
        let mut next = Some(todo);

        for stretch in found.iter() {
            let before = stretch.range.start().before();
            let hole = next
                .zip(before)
                .and_then(|(next, last)| IovaRange::new(next.start(), last));
            let (_, flushed) = domain.flushed(|gather| gather.unmap(stretch.range));
            release(stretch, &flushed);
            holes(domain, hole, |hole| release(&hole, &flushed));
            next = todo.behind(stretch.range.last());
        }
        if piece.is_none() {
            // Nothing more in this piece.
            let end = first_piece(todo, PIECE);
            let ((), flushed) = domain.flushed(|_| ());
            holes(domain, Some(end), |hole| release(&hole, &flushed));
            next = todo.behind(end.last());
        }
        left = next;
        rest();
    }
}

/// Calls `each` with the parts of `hole` that are followed.
fn holes(domain: &Domain, hole: Option<IovaRange>, mut each: impl FnMut(Stretch)) {
    let Some(hole) = hole else {
        return;
    };
    for watch in domain.watches().overlapping(hole) {
        let part = watch.range().intersect(hole);
        if let Some((range, phys)) =
            part.and_then(|part| Some((part, watch.phys_at(part.start())?)))
        {
            each(Stretch { range, phys });
        }
    }
}

/// Makes 2M leaves of small ones that are to go, where they fit: a table full of leaves goes by one
/// store then, which is several times as fast as leaf by leaf.
fn merge(domain: &Domain, found: &[Stretch]) {
    const SIZE: PageSize = PageSize::SIZE_2M;
    let Some(table) = domain.table().filter(|_| domain.sizes().allows(SIZE)) else {
        return;
    };

    for stretch in found {
        let Some(blocks) = stretch.blocks() else {
            continue;
        };
        let is_small = |iova| {
            let leaf = table.view().leaf_at(iova);
            leaf.is_some_and(|leaf| leaf.size() < SIZE)
        };
        if is_small(blocks.start()) && is_small(blocks.last()) {
            // If it stops half way the rest goes leaf by leaf.
            let _ = convert_part(domain, blocks, PageSizes::only(SIZE));
        }
    }
}
