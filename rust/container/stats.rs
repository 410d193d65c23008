// SPDX-License-Identifier: GPL-2.0

//! Counters of a container.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use super::State;
use crate::{
    pgtable::PAGE_BYTES,
    rmp::missed,
    sys::bindings, //
};

/// The counters of a container. `argsz` and `flags` are 0.
pub(crate) fn stats(state: &State) -> bindings::vfio_pgsize_stats {
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let stats = &state.follower.stats;

    bindings::vfio_pgsize_stats {
        splits: number(&stats.splits),
        merges: number(&stats.merges),
        fallbacks: number(&stats.fallbacks),
        repairs: number(&stats.repairs),
        mismatches: number(&stats.mismatches),
        missed: missed(),
        shared: state.shared.wrapping_mul(PAGE_BYTES),
        stateful: state.stateful.wrapping_mul(PAGE_BYTES),
        joined: state.mappings.joined.pages().wrapping_mul(PAGE_BYTES),
        joined_entries: state.mappings.joined.count().into(),
        ..Default::default()
    }
}
