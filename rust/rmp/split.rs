// SPDX-License-Identifier: GPL-2.0

//! Splits and merges one block of a watch.

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

/// Sizes of the leaves around a block that is split out of a larger leaf.
pub(super) const OUTER_SIZES: PageSizes =
    PageSizes::only(PageSize::SIZE_2M).union(PageSizes::ONLY_4K);

/// The page table of a watch.
fn table(watch: &Watch) -> Option<PageTable<'_>> {
    // SAFETY: The domain of a watch lives longer than the watch.
    unsafe { PageTable::of(watch.domain()) }
}

/// The leaf of at least 2M that maps `range`, a block.
pub(super) fn large_leaf(table: &PageTable<'_>, range: IovaRange) -> Option<Leaf> {
    table
        .view()
        .leaf_at(range.start())
        .filter(|leaf| leaf.size() >= PageSize::SIZE_2M)
}

/// Splits `range`, a block of `watch`, which is not pending, into 4K leaves. Tables come from
/// `source`. Atomic if `source` is.
///
/// Fails with `ENOMEM`; nothing has changed then.
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

/// As [`split_block`], with tables of the hook. Without memory, unmaps the whole leaf: a DMA fault
/// is better than DMA that depends on timing. Atomic.
pub(super) fn split_block_or_unmap(guard: &mut Guard, watch: &Watch, range: IovaRange) {
    // SAFETY: The guard is held while `tables` is used.
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
    // The worker repairs it, and notifies the VMM.
    watch.follower().notify_vmm();
}

/// Merges `range`, a whole block of `watch`, which is not pending, to a 2M leaf if it has smaller
/// leaves. Atomic.
pub(super) fn merge_block(_guard: &mut Guard, watch: &Watch, range: IovaRange) {
    let Some(table) = table(watch) else {
        return;
    };
    let leaf = table.view().leaf_at(range.start());
    if leaf.is_none_or(|leaf| leaf.size() >= PageSize::SIZE_2M) {
        return;
    }
    let mut conversion = Conversion::new(range, PageSizes::only(PageSize::SIZE_2M));
    // SAFETY: The guard is held while `tables` is used.
    let tables = unsafe { watch.follower().tables() };
    // A merge allocates nothing. One step suffices for a block. A hole ends it.
    let (changes, _) = table.edit_with(TableSource::Store(&tables), |editor| {
        conversion.step(editor, u32::MAX)
    });

    if changes.merges() != 0 {
        count(&watch.stats().merges, changes.merges());
        if let Some(leaf) = large_leaf(&table, range) {
            trace::merge(watch.follower().id, (&leaf).into());
        }
        // The worker frees the retired table.
        work_later();
    }
}
