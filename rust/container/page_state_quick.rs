// SPDX-License-Identifier: GPL-2.0

//! Quick page state changes: many changes of a few pages each, in existing tables, with one flush
//! for all.
//!
//! Changes that need a new table or a split take the slow way.

#![allow(unsafe_code)]

use super::{
    mapping::Mapping,
    State, //
};
use crate::{
    iommu::{
        Layout,
        PageTable, //
    },
    mm::{
        phys_of,
        unpin,
        Buffer,
        Plain, //
    },
    pgtable::{
        ContigRun,
        IovaRange,
        PageSize,
        PageSizes, //
    },
    rmp::Domain, //
};

/// `IOMMU_DEBUG_PAGEALLOC` counts pages that the IOMMU core maps and unmaps, and would miss these.
/// The kernel of the test build has it, but does not enable it.
const QUICK: bool = !cfg!(CONFIG_IOMMU_DEBUG_PAGEALLOC) || cfg!(VFIO_PGSIZE_TEST);

/// Quick changes in progress.
pub(super) struct Quick<'q> {
    /// Where pages were mapped.
    filled: Option<IovaRange>,
    /// Where pages were unmapped. They are in the container's `scratch.contigs`, and still pinned.
    taken: Option<IovaRange>,
    /// The layout of the page table, until something else edits it.
    layout: Option<Layout>,
    pages: &'q mut Buffer,
    /// Memory that is known to be plain.
    plain: &'q mut Plain,
}

impl<'q> Quick<'q> {
    /// Uses `pages` to pin, and `plain` as a cache.
    pub(crate) fn new(pages: &'q mut Buffer, plain: &'q mut Plain) -> Self {
        Self {
            filled: None,
            taken: None,
            layout: None,
            pages,
            plain,
        }
    }

    /// The page table, if there is one domain only. Others might have different leaves.
    fn table<'d>(&mut self, domains: &'d [Domain]) -> Option<PageTable<'d>> {
        let [domain] = domains else {
            return None;
        };
        if let Some(layout) = self.layout {
            return Some(domain.table_with(layout));
        }
        let table = domain.table()?;
        self.layout = Some(table.layout());
        Some(table)
    }
}

fn add(place: &mut Option<IovaRange>, range: IovaRange) {
    *place = Some(place.map_or(range, |before| before.hull(range)));
}

/// Whether `range` is within one level-0 table.
fn is_small(range: IovaRange) -> bool {
    QUICK && IovaRange::block(range.start(), PageSize::SIZE_2M).covers(range)
}

impl State {
    /// Makes `range`, of `mapping`, shared if that can be done quickly. Returns whether it did.
    pub(super) fn share_quickly(
        &mut self,
        mapping: &Mapping,
        range: IovaRange,
        quick: &mut Quick<'_>,
    ) -> bool {
        let rule = self.policy.at(range.start()).rule;
        let between = rule.sizes.below(PageSize::SIZE_2M) != PageSizes::ONLY_4K;
        let pages = range.pages();

        if !is_small(range)
            || pages > 1 && between
            || !mapping.locked.is_of_current()
            || !mapping.locked.charge_spare(pages)
        {
            return false;
        }
        let filled = self.pin_and_fill(mapping, range, quick);
        if filled.is_none() {
            mapping.locked.release(pages);
        }
        let Some(whole) = filled else {
            return false;
        };
        // All of a block that is followed is mapped, or is lost and has no table: nothing comes twice.
        let followed = |domain: &Domain| domain.watches().first_in(range).is_some();
        if cfg!(VFIO_PGSIZE_TEST) && self.domains.iter().any(followed) {
            kernel::warn_on!(true);
        }
        self.shared = self.shared.saturating_add(pages);
        add(&mut quick.filled, range);
        if whole {
            self.try_merge_block(mapping.range, range.start());
        }
        true
    }

    /// Pins and maps `range`. All or nothing. `Some(true)`: the block may be whole now.
    fn pin_and_fill(
        &mut self,
        mapping: &Mapping,
        range: IovaRange,
        quick: &mut Quick<'_>,
    ) -> Option<bool> {
        let table = quick.table(&self.domains)?;
        let (buffer, plain) = (&mut *quick.pages, &mut *quick.plain);
        let frames = &mut self.scratch.frames.0;
        let number = usize::try_from(range.pages()).ok()?;
        let memory = mapping.memory_at(range.start());
        let mut pinned = false;

        let filled = table.fill(range, mapping.access, || {
            let pages = buffer.pin_quickly(memory, number, mapping.access.write, plain)?;
            pinned = true;
            frames.clear();
            for page in pages {
                // There is room: a change has as many pages as a table has entries.
                frames.push_within_capacity(phys_of(*page)?).ok()?;
            }
            Some(frames.as_slice())
        });
        if filled.is_none() && pinned {
            buffer.unpin_quickly(number);
        }
        filled
    }

    /// Unmaps `range`, of `mapping`, if that can be done quickly. Returns whether it did. The pages
    /// stay pinned until [`State::flush_quick`].
    pub(super) fn take_quickly(
        &mut self,
        mapping: &Mapping,
        range: IovaRange,
        quick: &mut Quick<'_>,
    ) -> bool {
        if !is_small(range) {
            return false;
        }
        let found = &self.scratch.contigs;
        let room = found.capacity().saturating_sub(found.len());
        if usize::try_from(range.pages()).is_ok_and(|pages| pages > room) {
            self.flush_quick(mapping, quick);
        }

        let found = &mut self.scratch.contigs;
        let block = IovaRange::block(range.start(), PageSize::SIZE_2M);
        let followed = |domain: &Domain| domain.watches().first_in(block).is_some();
        if self.domains.iter().any(followed) {
            return false;
        }
        let taken = quick.table(&self.domains).is_some_and(|table| {
            table.take(range, |iova, phys| {
                let page = ContigRun {
                    range: IovaRange::block(iova, PageSize::SIZE_4K),
                    phys,
                };
                match found.last_mut() {
                    Some(last) if last.is_followed_by(&page) => {
                        last.range = last.range.hull(page.range)
                    }
                    // There is room.
                    _ => drop(found.push_within_capacity(page)),
                }
            })
        });
        if taken {
            add(&mut quick.taken, range);
        }
        taken
    }

    /// Flushes all quick changes, and unpins the pages that were unmapped.
    pub(super) fn flush_quick(&mut self, mapping: &Mapping, quick: &mut Quick<'_>) {
        quick.layout = None;
        let [domain] = self.domains.as_slice() else {
            return;
        };
        if let Some(range) = quick.filled.take() {
            domain.sync_filled(range);
        }
        let Some(range) = quick.taken.take() else {
            return;
        };
        let ((), flushed) = domain.flushed(|gather| gather.touch(range));
        let found = &mut self.scratch.contigs;
        let mut pages = 0u64;
        for contig in found.iter() {
            // SAFETY: They were mapped, so they are pinned once, and are in no domain any more.
            pages = pages.saturating_add(unsafe {
                unpin(
                    contig.phys,
                    contig.range.pages(),
                    mapping.access.write,
                    false,
                    &flushed,
                )
            });
        }
        found.clear();
        mapping.locked.release(pages);
        self.shared = self.shared.saturating_sub(pages);
    }
}
