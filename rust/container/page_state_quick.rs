// SPDX-License-Identifier: GPL-2.0

//! Quick page state changes: many changes of a few pages each, in existing tables, with one flush
//! for all.
//!
//! Changes that need a new table or a split take the slow way.
//!
//! Pages to share are pinned earlier, without the container's lock. A first look under the lock finds
//! the changes that can be made quickly, so that no page is pinned for the others. The range is not
//! claimed meanwhile: until the call holds the lock again nothing else refers to its pins, and then
//! it checks everything again.

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
        unpin,
        EarlyPins, //
    },
    pgtable::{
        ContigRun,
        IovaRange,
        PageSize,
        PageSizes, //
    },
    policy::{
        Policy,
        Segment, //
    },
    rmp::Domain, //
};

/// `IOMMU_DEBUG_PAGEALLOC` counts pages that the IOMMU core maps and unmaps, and would miss these.
/// The kernel of the test build has it, but does not enable it.
const QUICK: bool = !cfg!(CONFIG_IOMMU_DEBUG_PAGEALLOC) || cfg!(VFIO_PGSIZE_TEST);

/// Quick changes in progress, with the container's lock held.
pub(super) struct Quick<'q, 'b> {
    /// Where pages were mapped.
    filled: Option<IovaRange>,
    /// Where pages were unmapped. They are in the container's `scratch.contigs`, and still pinned.
    taken: Option<IovaRange>,
    /// The layout of the page table, until something else edits it.
    layout: Option<Layout>,
    /// The policy at the last change.
    segment: Option<Segment>,
    /// Pages to map, pinned before the lock was taken. `None`: nothing can be mapped.
    pins: Option<&'q mut EarlyPins<'b>>,
}

impl<'q, 'b> Quick<'q, 'b> {
    /// Shares the pages of `pins`, in their order.
    pub(super) fn new(pins: &'q mut EarlyPins<'b>) -> Self {
        Self {
            pins: Some(pins),
            ..Self::without_pins()
        }
    }

    /// Can only unmap.
    pub(super) fn without_pins() -> Self {
        Self {
            filled: None,
            taken: None,
            layout: None,
            segment: None,
            pins: None,
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

    /// Returns whether the policy wants 4K leaves for all pages of `range`, which is small.
    fn suits(&mut self, range: IovaRange, policy: &Policy) -> bool {
        let segment = match self.segment {
            Some(segment) if segment.range.contains(range.start()) => segment,
            _ => *self.segment.insert(policy.at(range.start())),
        };
        let between = segment.rule.sizes.below(PageSize::SIZE_2M) != PageSizes::ONLY_4K;

        range.pages() == 1 || !between && segment.range.covers(range)
    }
}

fn add(place: &mut Option<IovaRange>, range: IovaRange) {
    *place = Some(place.map_or(range, |before| before.hull(range)));
}

/// Whether `range` is within one level-0 table.
pub(super) fn is_small(range: IovaRange) -> bool {
    QUICK && IovaRange::block(range.start(), PageSize::SIZE_2M).covers(range)
}

impl State {
    /// Returns whether `range`, of `mapping`, can be shared quickly if its pages are pinned.
    pub(super) fn may_share(
        &self,
        mapping: &Mapping,
        range: IovaRange,
        quick: &mut Quick<'_, '_>,
    ) -> bool {
        is_small(range)
            && !self.claims.any_in(range)
            && mapping.range.covers(range)
            && mapping.locked.is_of_current()
            && quick.suits(range, &self.policy)
            && quick
                .table(&self.domains)
                .is_some_and(|table| table.has_room(range))
    }

    /// Makes `range`, of `mapping`, shared if its pages are pinned and that can be done quickly.
    /// Returns whether it did.
    ///
    /// [`State::may_share`] was true before the pages were pinned, but need not be true now.
    pub(super) fn share_quickly(
        &mut self,
        mapping: &Mapping,
        range: IovaRange,
        quick: &mut Quick<'_, '_>,
    ) -> bool {
        let Some(whole) = self.fill_quickly(mapping, range, quick) else {
            return false;
        };

        self.shared = self.shared.saturating_add(range.pages());
        if whole {
            self.try_merge_block(mapping.range, range.start());
        }
        true
    }

    /// Maps the next pages that are pinned at `range`, of `mapping`, in which nothing is mapped, if
    /// that can be done quickly. Returns whether the 2M block around it may be whole now; `None`: it
    /// did nothing.
    pub(super) fn fill_quickly(
        &mut self,
        mapping: &Mapping,
        range: IovaRange,
        quick: &mut Quick<'_, '_>,
    ) -> Option<bool> {
        let pages = range.pages();

        if !is_small(range) || !quick.suits(range, &self.policy) {
            return None;
        }
        let table = quick.table(&self.domains)?;
        let pins = quick.pins.as_mut()?;
        let whole = table.fill(range, mapping.access, pins.next(pages)?)?;
        pins.keep(pages);
        // All of a block that is followed is mapped, or is lost and has no table: nothing comes twice.
        let followed = |domain: &Domain| domain.watches().first_in(range).is_some();
        if cfg!(VFIO_PGSIZE_TEST) && self.domains.iter().any(followed) {
            kernel::warn_on!(true);
        }
        add(&mut quick.filled, range);
        Some(whole)
    }

    /// Unmaps `range`, of `mapping`, if that can be done quickly. Returns whether it did. The pages
    /// stay pinned until [`State::flush_quick`].
    pub(super) fn take_quickly(
        &mut self,
        mapping: &Mapping,
        range: IovaRange,
        quick: &mut Quick<'_, '_>,
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
    pub(super) fn flush_quick(&mut self, mapping: &Mapping, quick: &mut Quick<'_, '_>) {
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
        if mapping.stateful {
            self.shared = self.shared.saturating_sub(pages);
        }
    }
}
