// SPDX-License-Identifier: GPL-2.0

//! What `hook.c` calls: a leaf of 2M or more is split before the RMP entry under it is smashed, and
//! merged when it is whole again.
//!
//! These functions run where KVM changes the RMP, with preemption off. They take the lock of the
//! reverse map, allocate without sleeping, and flush before they return.

#![allow(unsafe_code)]

use super::{
    cursor::Visit,
    entry::Block,
    lock::Guard,
    split::{
        merge_block,
        split_block_or_unmap, //
    },
    watch::{
        Watch,
        WatchState, //
    }, //
};
use crate::sys::testing::{
    step,
    Step, //
};

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
            marks.state = WatchState::Hit;
            return Visit::Next;
        }
        split_block_or_unmap(guard, watch, range);
        Visit::Edited
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
            guard.set_recheck(watch);
            Visit::Next
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
            return Visit::Next;
        }
        let busy = guard.is_in_transit(block) || guard.generation(block) != began;
        if busy || guard.marks(watch).is_pending() {
            // The worker looks at it when things have calmed down.
            guard.set_recheck(watch);
            return Visit::Next;
        }
        merge_block(guard, watch, range);
        Visit::Edited
    });
}

/// One of a block's pages became shared.
#[no_mangle]
extern "C" fn pgsize_became_shared(pfn: u64) {
    Guard::lock().each_over(Block::of_pfn(pfn), false, |guard, watch, _| {
        if watch.merges() {
            guard.set_recheck(watch);
        }
        Visit::Next
    });
}

/// The hook has `watch` from now on, which takes the place of one that it had: it may have looked at the
/// one that goes no more, and not at this one.
pub(super) fn take_over(guard: &mut Guard, watch: &Watch) {
    let mut nth = 0usize;

    guard.go_live(watch);
    while let Some(look) = guard.nth_cursor_over(watch, nth) {
        match look.and_then(|block| watch.iovas_of(block)) {
            Some(range) => split_block_or_unmap(guard, watch, range),
            // It may be for what became whole.
            None if watch.merges() => guard.set_recheck(watch),
            None => {}
        }
        nth = nth.wrapping_add(1);
    }
}
