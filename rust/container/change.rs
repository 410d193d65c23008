// SPDX-License-Identifier: GPL-2.0

//! Page state changes: groups of them, and buffers.

use kernel::prelude::*;

use crate::pgtable::{
    IovaRange,
    PageSize, //
};

/// The state of a page of a stateful mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageState {
    /// Not mapped: devices cannot access it.
    Private,
    /// Pinned and mapped.
    Shared,
}

/// One change.
#[derive(Clone, Copy)]
pub(crate) struct StateChange {
    /// The pages.
    pub(crate) range: IovaRange,
    /// Their new state.
    pub(crate) to: PageState,
}

/// Buffers for changes. They grow on use.
#[derive(Default)]
pub(crate) struct ChangeBuffers {
    /// As read from userspace.
    pub(crate) bytes: KVVec<u8>,
    /// Checked.
    pub(crate) changes: KVVec<StateChange>,
}

/// Changes that can be made as one: adjacent, to the same state, within a 2M block.
pub(super) struct ChangeGroup<'c> {
    /// As one change.
    pub(super) change: StateChange,
    /// One by one.
    pub(super) parts: &'c [StateChange],
}

/// Groups `changes`, in order.
pub(super) fn groups(changes: &[StateChange]) -> impl Iterator<Item = ChangeGroup<'_>> {
    let mut rest = changes;

    core::iter::from_fn(move || {
        let (first, others) = rest.split_first()?;
        let block = IovaRange::block(first.range.start(), PageSize::SIZE_2M);
        let mut change = *first;
        let mut count = 1usize;

        for other in others {
            let follows = change.range.last().next() == Some(other.range.start());
            if !follows || other.to != change.to || !block.covers(other.range) {
                break;
            }
            change.range = change.range.hull(other.range);
            count = count.saturating_add(1);
        }
        let (parts, later) = rest.split_at(count);
        rest = later;
        Some(ChangeGroup { change, parts })
    })
}

/// Makes changes of `group` with `quickly`: all at once, or in order up to the first that fails.
/// Returns their number.
pub(super) fn quick_parts(
    group: &ChangeGroup<'_>,
    mut quickly: impl FnMut(StateChange) -> bool,
) -> usize {
    if quickly(group.change) {
        return group.parts.len();
    }
    match group.parts {
        [_] => 0,
        // Single changes may be possible if the group is not.
        parts => parts.iter().take_while(|part| quickly(**part)).count(),
    }
}

/// The number of pages to share.
pub(super) fn pages_to_share(changes: &[StateChange]) -> u64 {
    changes
        .iter()
        .filter(|change| change.to == PageState::Shared)
        .fold(0, |pages, change| {
            pages.saturating_add(change.range.pages())
        })
}
