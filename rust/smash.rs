// SPDX-License-Identifier: GPL-2.0

//! The hook: a leaf of 2M or more is split before the RMP entry under it is smashed, and merged when
//! it is whole again.
//!
//! The functions that `hook.c` calls run where KVM changes the RMP, with preemption off: they take
//! the lock of the [`rmap`](crate::rmap), allocate without sleeping, and flush before they return.

#![allow(unsafe_code)]

use kernel::prelude::*;

use crate::{
    cursor::Done,
    follower::count,
    pgtable::{
        Conversion,
        IovaRange,
        Leaf,
        PageSize,
        PageSizes, //
    },
    pool::Memory,
    rmap::Guard,
    rmp::Block,
    table::PageTable,
    testing::{
        step,
        Step, //
    },
    trace::{
        self,
        Where, //
    },
    watch::{
        Standing,
        Watch, //
    },
    worker::work_later, //
};

/// What a split leaves around the block: leaves of 2M, whatever was there.
pub(crate) const AROUND: PageSizes = PageSizes::only(PageSize::SIZE_2M).union(PageSizes::ONLY_4K);

/// When a call begins that breaks nothing: what [`pgsize_became_whole`] is told at its end.
#[no_mangle]
extern "C" fn pgsize_generation(pfn: u64) -> u64 {
    Guard::lock().generation(Block::of_pfn(pfn))
}

/// A call begins that may leave a block with entries of 4K, one of them assigned. Returns when that
/// is.
#[no_mangle]
extern "C" fn pgsize_smash_begin(pfn: u64) -> u64 {
    step(Step::SmashBegins);
    let block = Block::of_pfn(pfn);
    let mut guard = Guard::lock();

    step(Step::SmashLocked);
    let began = guard.begin(block);
    guard.each_over(block, true, |guard, watch, range| {
        let marks = guard.marks(watch);
        if marks.is_pending() {
            marks.standing = Standing::Hit;
            return Done::Little;
        }
        make_small_or_none(guard, watch, range);
        Done::Much
    });
    drop(guard);
    step(Step::SmashNoted);
    began
}

/// The call has returned. If it was refused, what was split for it was so for nothing.
#[no_mangle]
extern "C" fn pgsize_smash_end(pfn: u64, began: u64, refused: bool) {
    step(Step::SmashChanged);
    let block = Block::of_pfn(pfn);
    let mut guard = Guard::lock();

    guard.end(block, began);
    if refused {
        guard.each_over(block, false, |guard, watch, _| {
            guard.doubt(watch);
            Done::Little
        });
    }
    drop(guard);
    step(Step::SmashDone);
}

/// A block has a 2M entry, or is shared as a whole; or was, for a moment, if another call came in
/// between.
#[no_mangle]
extern "C" fn pgsize_became_whole(pfn: u64, began: u64) {
    let block = Block::of_pfn(pfn);
    let mut guard = Guard::lock();

    guard.each_over(block, false, |guard, watch, range| {
        if !watch.merges() {
            return Done::Little;
        }
        let busy = guard.is_in_transit(block) || guard.generation(block) != began;
        if busy || guard.marks(watch).is_pending() {
            // The worker looks at it when things have calmed down.
            guard.doubt(watch);
            return Done::Little;
        }
        make_large(guard, watch, range);
        Done::Much
    });
}

/// One of a block's pages became shared.
#[no_mangle]
extern "C" fn pgsize_became_shared(pfn: u64) {
    Guard::lock().each_over(Block::of_pfn(pfn), false, |guard, watch, _| {
        if watch.merges() {
            guard.doubt(watch);
        }
        Done::Little
    });
}

/// The hook has `watch` from now on, which takes the place of one that it had: it may have looked at the
/// one that goes no more, and not at this one.
pub(crate) fn take_over(guard: &mut Guard, watch: &Watch) {
    let mut nth = 0usize;

    guard.go_live(watch);
    while let Some(look) = guard.looked_at(watch, nth) {
        match look.and_then(|block| watch.iovas_of(block)) {
            Some(range) => make_small_or_none(guard, watch, range),
            // It may be for what became whole.
            None if watch.merges() => guard.doubt(watch),
            None => {}
        }
        nth = nth.wrapping_add(1);
    }
}

/// The table of a followed stretch.
fn table(watch: &Watch) -> Option<PageTable<'_>> {
    // SAFETY: A watch's domain is valid as long as the watch is.
    unsafe { PageTable::of(watch.domain()) }
}

/// A leaf of at least 2M that translates `range`, a block.
pub(crate) fn large_leaf(table: &PageTable<'_>, range: IovaRange) -> Option<Leaf> {
    table
        .view()
        .leaf_at(range.start())
        .filter(|leaf| leaf.size() >= PageSize::SIZE_2M)
}

/// Gives `range`, a block of a stretch that is not pending, leaves of 4K, with tables of that memory.
///
/// Fails with `ENOMEM`, and all is as it was then.
pub(crate) fn make_small(
    _guard: &mut Guard,
    watch: &Watch,
    range: IovaRange,
    memory: Memory<'_>,
) -> Result {
    let Some(table) = table(watch) else {
        return Ok(());
    };
    let Some(leaf) = large_leaf(&table, range) else {
        return Ok(());
    };
    let (changes, result) = table.edit_with(memory, |editor| {
        editor.carve(range, PageSizes::ONLY_4K, AROUND)
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
pub(crate) fn make_small_or_none(guard: &mut Guard, watch: &Watch, range: IovaRange) {
    if make_small(guard, watch, range, Memory::Hook(watch.follower())).is_ok() {
        return;
    }
    let Some(table) = table(watch) else {
        return;
    };
    let Some(leaf) = large_leaf(&table, range) else {
        return;
    };
    table.take_out(leaf.range());
    trace::fallback(watch.follower().id, (&leaf).into());
    guard.marks(watch).lost = true;
    count(&watch.stats().fallbacks, 1);
    // The worker also repairs it.
    watch.follower().alarm();
}

/// Gives `range`, a block of a stretch that is not pending, which is whole, a leaf of 2M, if it has
/// smaller ones.
pub(crate) fn make_large(_guard: &mut Guard, watch: &Watch, range: IovaRange) {
    let Some(table) = table(watch) else {
        return;
    };
    let leaf = table.view().leaf_at(range.start());
    if leaf.is_none_or(|leaf| leaf.size() >= PageSize::SIZE_2M) {
        return;
    }
    let mut conversion = Conversion::new(range, PageSizes::only(PageSize::SIZE_2M));
    // A merge allocates nothing. A block takes one step, and a hole in it ends it.
    let (changes, _) = table.edit_with(Memory::Hook(watch.follower()), |editor| {
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
