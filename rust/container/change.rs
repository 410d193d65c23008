// SPDX-License-Identifier: GPL-2.0

//! Changes of page states as they are asked for, and room for them.

use kernel::prelude::*;

use crate::pgtable::IovaRange;

/// What becomes of pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageState {
    /// Devices can not use them.
    Private,
    /// Devices use them.
    Shared,
}

/// One change.
#[derive(Clone, Copy)]
pub(crate) struct StateChange {
    pub(crate) range: IovaRange,
    pub(crate) to: PageState,
}

/// Room for changes as they are read, and as they are made. It grows as it is used.
#[derive(Default)]
pub(crate) struct ChangeBuffers {
    pub(crate) bytes: KVVec<u8>,
    pub(crate) changes: KVVec<StateChange>,
}
