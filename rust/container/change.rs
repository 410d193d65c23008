// SPDX-License-Identifier: GPL-2.0

//! Page state changes, and buffers for them.

use kernel::prelude::*;

use crate::pgtable::IovaRange;

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
