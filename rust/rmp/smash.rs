// SPDX-License-Identifier: GPL-2.0

//! What `hook.c` calls when KVM changes the RMP. A leaf of 2M or more is split before the RMP entry
//! under it is smashed, and merged when the entry is whole again.
//!
//! Runs with preemption off. Takes the rmap's lock, allocates atomically, and flushes before it
//! returns.

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

/// The generation at the entry of a call that breaks nothing, for [`pgsize_became_whole`] at its
/// exit.
#[no_mangle]
extern "C" fn pgsize_generation(pfn: u64) -> u64 {
    Guard::lock().generation(Block::of_pfn(pfn))
}

/// Entry of a call that may leave the block with 4K entries, one of them assigned. Returns its
/// generation.
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

/// Exit of the call. If it was `refused`, splits for it may be undone.
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

/// A block has a 2M entry, or is shared as a whole. Another call may have changed that since
/// generation `began`.
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
            // The worker decides later.
            guard.set_recheck(watch);
            return Visit::Next;
        }
        merge_block(guard, watch, range);
        Visit::Edited
    });
}

/// A page of a block became shared.
#[no_mangle]
extern "C" fn pgsize_became_shared(pfn: u64) {
    Guard::lock().each_over(Block::of_pfn(pfn), false, |guard, watch, _| {
        if watch.merges() {
            guard.set_recheck(watch);
        }
        Visit::Next
    });
}

/// Makes `watch` live, which replaces a watch that the hook saw. Iterations in progress may have
/// visited the old watch, or may miss the new one: this does their work.
pub(super) fn take_over(guard: &mut Guard, watch: &Watch) {
    let mut nth = 0usize;

    guard.go_live(watch);
    while let Some(look) = guard.nth_cursor_over(watch, nth) {
        match look.and_then(|block| watch.iovas_of(block)) {
            Some(range) => split_block_or_unmap(guard, watch, range),
            // The iteration may be for a block that became whole.
            None if watch.merges() => guard.set_recheck(watch),
            None => {}
        }
        nth = nth.wrapping_add(1);
    }
}
