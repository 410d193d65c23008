// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! States of pages, and changes of them.

use std::fmt;
use std::ops::Not;

use thiserror::Error;

use crate::bindings::vfio_pgsize_state;
use crate::bindings::VFIO_PGSIZE_STATE_PRIVATE;
use crate::bindings::VFIO_PGSIZE_STATE_SHARED;
use crate::error::Error;
use crate::range::IovaRange;

/// Whether devices may use a page of a stateful mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No device reaches the page: it is under no leaf, not pinned, and not counted.
    Private,
    /// Devices reach the page: it is pinned, and counts for `RLIMIT_MEMLOCK`.
    Shared,
}

impl Not for State {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            State::Private => State::Shared,
            State::Shared => State::Private,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Private => "private",
            State::Shared => "shared",
        })
    }
}

/// One change of [`Container::set_state`](crate::Container::set_state): pages, and their new state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Change(vfio_pgsize_state);

impl Change {
    /// A change of all pages of `range` to `state`.
    pub const fn new(range: IovaRange, state: State) -> Self {
        Change(vfio_pgsize_state {
            iova: range.iova,
            size: range.size,
            state: match state {
                State::Private => VFIO_PGSIZE_STATE_PRIVATE,
                State::Shared => VFIO_PGSIZE_STATE_SHARED,
            },
            reserved: 0,
        })
    }

    /// The pages.
    pub const fn range(self) -> IovaRange {
        IovaRange::new(self.0.iova, self.0.size)
    }

    /// Their new state.
    pub const fn state(self) -> State {
        match self.0.state {
            VFIO_PGSIZE_STATE_PRIVATE => State::Private,
            _ => State::Shared,
        }
    }
}

/// Not all changes were made.
///
/// The first `done` of them are complete. The next one is the cause; it and all later ones had no
/// effect. It is safe to repeat the call with all changes: pages that have the state keep it.
#[derive(Debug, Error)]
#[error("{source} (changes done before: {done})")]
pub struct SetStateError {
    /// How many changes, from the first on, are complete.
    pub done: usize,
    /// Why the next one is not.
    pub source: Error,
}
