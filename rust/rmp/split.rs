// SPDX-License-Identifier: GPL-2.0

//! One block of a followed contiguous run: small leaves, or one large leaf.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::{
    follower::count,
    lock::Guard,
    watch::Watch,
    work::work_later, //
};
use crate::{
    iommu::{
        PageTable,
        TableSource, //
    },
    pgtable::{
        Conversion,
        IovaRange,
        Leaf,
        PageSize,
        PageSizes, //
    },
    sys::trace::{
        self,
        Where, //
    }, //
};

/// What a split leaves around the block: leaves of 2M, whatever was there.
pub(super) const OUTER_SIZES: PageSizes =
    PageSizes::only(PageSize::SIZE_2M).union(PageSizes::ONLY_4K);

/// The table of a followed contiguous run.
fn table(watch: &Watch) -> Option<PageTable<'_>> {
    // SAFETY: A watch's domain is valid as long as the watch is.
    unsafe { PageTable::of(watch.domain()) }
}

/// A leaf of at least 2M that translates `range`, a block.
pub(super) fn large_leaf(table: &PageTable<'_>, range: IovaRange) -> Option<Leaf> {
    table
        .view()
        .leaf_at(range.start())
        .filter(|leaf| leaf.size() >= PageSize::SIZE_2M)
}

/// Gives `range`, a block of a contiguous run that is not pending, leaves of 4K, with tables of that memory.
///
/// Fails with `ENOMEM`, and all is as it was then.
pub(super) fn split_block(
    _guard: &mut Guard,
    watch: &Watch,
    range: IovaRange,
    source: TableSource<'_>,
) -> Result {
    let Some(table) = table(watch) else {
        return Ok(());
    };
    let Some(leaf) = large_leaf(&table, range) else {
        return Ok(());
    };
    let (changes, result) = table.edit_with(source, |editor| {
        editor.split_range(range, PageSizes::ONLY_4K, OUTER_SIZES)
    });

    count(&watch.stats().splits, changes.splits());
    if result.is_ok() {
        let phys = leaf.phys().at(leaf.iova, range.start());
        let at = Where {
            iova: range.start(),
            size: leaf.size(),
            phys,
        };
        trace::split(watch.follower().id, at);
    }
    result
}

/// The same, at once. If there is no memory for the table, the leaf goes altogether: DMA that faults is
/// better than DMA that goes on by chance.
pub(super) fn split_block_or_unmap(guard: &mut Guard, watch: &Watch, range: IovaRange) {
    // SAFETY: There is a guard, for longer than this is used.
    let tables = unsafe { watch.follower().tables() };

    if split_block(guard, watch, range, TableSource::Store(&tables)).is_ok() {
        return;
    }
    let Some(table) = table(watch) else {
        return;
    };
    let Some(leaf) = large_leaf(&table, range) else {
        return;
    };
    table.unmap_leaf(leaf.range());
    trace::fallback(watch.follower().id, (&leaf).into());
    guard.marks(watch).lost = true;
    count(&watch.stats().fallbacks, 1);
    // The worker also repairs it.
    watch.follower().notify_vmm();
}

/// Gives `range`, a block of a contiguous run that is not pending, which is whole, a leaf of 2M, if it has
/// smaller ones.
pub(super) fn merge_block(_guard: &mut Guard, watch: &Watch, range: IovaRange) {
    let Some(table) = table(watch) else {
        return;
    };
    let leaf = table.view().leaf_at(range.start());
    if leaf.is_none_or(|leaf| leaf.size() >= PageSize::SIZE_2M) {
        return;
    }
    let mut conversion = Conversion::new(range, PageSizes::only(PageSize::SIZE_2M));
    // SAFETY: There is a guard, for longer than this is used.
    let tables = unsafe { watch.follower().tables() };
    // A merge allocates nothing. A block takes one step, and a hole in it ends it.
    let (changes, _) = table.edit_with(TableSource::Store(&tables), |editor| {
        conversion.step(editor, u32::MAX)
    });

    if changes.merges() != 0 {
        count(&watch.stats().merges, changes.merges());
        if let Some(leaf) = large_leaf(&table, range) {
            trace::merge(watch.follower().id, (&leaf).into());
        }
        // The table is to be freed.
        work_later();
    }
}
