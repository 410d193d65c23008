// SPDX-License-Identifier: GPL-2.0

//! What the test build has in addition: see `testing.h`. In the ordinary build it is nothing.

#![allow(unsafe_code)]

/// A point between two steps of map, unmap, merge, a new policy or smash. `testing.h` says what each is.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Step {
    MapClaimed,
    MapBegins,
    MapWatched,
    MapLooked,
    MapMapped,
    MapPublishes,
    MapHit,
    MapPublished,
    MapInserted,
    UnmapBegins,
    UnmapRemoved,
    UnmapHeld,
    UnmapOut,
    UnmapFlushed,
    UnmapUnpinned,
    UnmapUnwatched,
    MergeBegins,
    MergeLooked,
    PolicyWatched,
    SmashBegins,
    SmashNoted,
    SmashChanged,
    SmashDone,
    SmashLocked,
}

#[cfg(not(VFIO_PGSIZE_TEST))]
mod build {
    use super::Step;

    /// The thread is at `step`.
    #[inline(always)]
    pub(crate) fn step(_step: Step) {}

    /// Whether no two groups are to share a domain.
    #[inline(always)]
    pub(crate) fn wants_own_domains() -> bool {
        false
    }
}

#[cfg(VFIO_PGSIZE_TEST)]
mod build {
    use super::Step;
    use crate::sys::bindings;

    // The two lists are one.
    const _: () = assert!(Step::MapInserted as u32 == bindings::PGSIZE_STEP_MAP_INSERTED);
    const _: () = assert!(Step::UnmapUnwatched as u32 == bindings::PGSIZE_STEP_UNMAP_UNWATCHED);
    const _: () = assert!(Step::SmashLocked as u32 + 1 == bindings::PGSIZE_STEPS);

    pub(crate) fn step(step: Step) {
        // SAFETY: The number is one of a step. Those of map and unmap are passed in process context.
        unsafe { bindings::pgsize_step(step as u32) };
    }

    pub(crate) fn wants_own_domains() -> bool {
        // SAFETY: It may be called from anywhere.
        unsafe { bindings::pgsize_own_domains() }
    }
}

pub(crate) use build::{
    step,
    wants_own_domains, //
};
