// SPDX-License-Identifier: GPL-2.0

//! Unmaps from all domains, flushes, and then unpins.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::{
    mapping::Mapping,
    State, //
};
use crate::{
    iommu::{
        convert_part,
        Flushed,
        Gather, //
    },
    mm::unpin,
    pgtable::{
        ContigRun,
        IovaRange,
        PageSize,
        PageSizes, //
    },
    rmp::Domain,
    sys::{
        sched::cond_resched,
        testing::{
            step,
            Step, //
        }, //
    }, //
};

impl State {
    /// Updates the counters after `mapping` was removed and nothing of it is mapped.
    pub(super) fn forget(&mut self, mapping: &Mapping) {
        self.forget_state(mapping);
        if !mapping.joins() {
            self.avail = self.avail.saturating_add(1);
        }
    }

    /// Frees empty tables of a stateful mapping that is gone, and updates its count of pages.
    fn forget_state(&mut self, mapping: &Mapping) {
        if !mapping.stateful {
            return;
        }
        self.stateful = self.stateful.saturating_sub(mapping.range.pages());
        for domain in &self.domains {
            let mut left = Some(mapping.range);
            while let (Some(todo), Some(table)) = (left, domain.table()) {
                left = table.drop_empty(todo);
                cond_resched();
            }
        }
    }

    /// Unmaps and unpins what is mapped in `range` of `mapping`. No leaf may cross an end of the
    /// range.
    ///
    /// Sleeps. Cannot fail, and allocates nothing.
    pub(crate) fn clear(&mut self, mapping: &Mapping, range: IovaRange) {
        let Some(source) = self.source() else {
            return;
        };
        // A page that may still be mapped somewhere stays pinned.
        let mut safe = true;
        for (index, domain) in self.domains.iter_mut().enumerate() {
            if index != source {
                safe &= domain.unmap_present(range);
            }
        }
        let Some(domain) = self.domains.get_mut(source) else {
            return;
        };
        let (mut pages, mut memory) = (0u64, 0u64);
        let release = |contig: &ContigRun, flushed: &Flushed<'_>| {
            pages = pages.saturating_add(contig.range.pages());
            if safe {
                // SAFETY: By the invariants, mapped pages of memory are pinned once. They are in no
                // domain any more.
                let unpinned = unsafe {
                    unpin(
                        contig.phys,
                        contig.range.pages(),
                        mapping.access.write,
                        mapping.mixed,
                        flushed,
                    )
                };
                memory = memory.saturating_add(unpinned);
            }
        };

        let lost = domain.watches().set_pending_in(range);
        step(Step::UnmapHeld);
        unmap_all_of(domain, range, lost, &mut self.scratch.contigs, release);
        domain.watches_mut().remove_in(range);
        step(Step::UnmapUnwatched);
        mapping.locked.release(memory);
        if mapping.stateful {
            self.shared = self.shared.saturating_sub(pages);
        }
    }
}

/// Unmaps `range`, and calls `release` for what was mapped. `lost`: the watches tell the frames of
/// lost leaves.
fn unmap_all_of(
    domain: &Domain,
    range: IovaRange,
    lost: bool,
    found: &mut KVVec<ContigRun>,
    mut release: impl FnMut(&ContigRun, &Flushed<'_>),
) {
    let mut left = Some(range);

    let next = |left: IovaRange| {
        let mapped = domain.skip_holes(left);
        // Lost leaves are in holes.
        let followed = domain.watches().first_in(left).filter(|_| lost);
        let from = followed.and_then(|watch| left.from(watch.range().start().max(left.start())));
        match (mapped, from) {
            (Some(mapped), Some(from)) => Some(mapped.hull(from)),
            (mapped, from) => mapped.or(from),
        }
    };

    while let Some(todo) = left.and_then(next) {
        let seen = domain.contig_runs(todo, found);
        merge(domain, found);
        let (gone, flushed) = domain.flushed(|gather| {
            let gone = unmap_groups(gather, found);
            step(Step::UnmapOut);
            gone
        });
        step(Step::UnmapFlushed);

        if !kernel::warn_on!(!gone) {
            found.iter().for_each(|contig| release(contig, &flushed));
        }
        if lost {
            holes(domain, seen, found, |hole| release(&hole, &flushed));
        }
        step(Step::UnmapUnpinned);
        left = todo.behind(seen.last());
        cond_resched();
    }
    found.clear();
}

/// Unmaps contiguous runs, adjacent ones with one call. Returns whether it unmapped all.
fn unmap_groups(gather: &mut Gather<'_>, found: &[ContigRun]) -> bool {
    let mut contigs = found.iter().map(|contig| contig.range).peekable();
    let mut all = true;

    while let Some(mut group) = contigs.next() {
        while let Some(next) = contigs.next_if(|next| group.last().next() == Some(next.start())) {
            group = group.hull(next);
        }
        all &= group.bytes() == Some(gather.unmap(group));
    }
    all
}

/// Calls `each` with the watched parts of `seen` that are not in `found`.
fn holes(domain: &Domain, seen: IovaRange, found: &[ContigRun], mut each: impl FnMut(ContigRun)) {
    let mut next = Some(seen);
    let mut hole = |hole: IovaRange| followed_in(domain, hole, &mut each);

    for contig in found {
        let gap = next.zip(contig.range.start().before());
        if let Some(gap) = gap.and_then(|(todo, last)| IovaRange::new(todo.start(), last)) {
            hole(gap);
        }
        next = seen.behind(contig.range.last());
    }
    if let Some(gap) = next {
        hole(gap);
    }
}

/// Calls `each` with the watched parts of `hole`.
fn followed_in(domain: &Domain, hole: IovaRange, each: &mut impl FnMut(ContigRun)) {
    for watch in domain.watches().overlapping(hole) {
        let part = watch.range().intersect(hole);
        if let Some((range, phys)) =
            part.and_then(|part| Some((part, watch.phys_at(part.start())?)))
        {
            each(ContigRun { range, phys });
        }
    }
}

/// Merges small leaves that are about to be unmapped, where 2M leaves fit: unmapping a table with
/// one store is several times as fast as leaf by leaf.
fn merge(domain: &Domain, found: &[ContigRun]) {
    const SIZE: PageSize = PageSize::SIZE_2M;
    let Some(table) = domain.table().filter(|_| domain.sizes().allows(SIZE)) else {
        return;
    };

    for contig in found {
        let Some(blocks) = contig.blocks() else {
            continue;
        };
        let is_small = |iova| {
            let leaf = table.view().leaf_at(iova);
            leaf.is_some_and(|leaf| leaf.size() < SIZE)
        };
        if is_small(blocks.start()) && is_small(blocks.last()) {
            // On failure the rest is unmapped leaf by leaf.
            let _ = convert_part(domain, blocks, PageSizes::only(SIZE));
        }
    }
}
