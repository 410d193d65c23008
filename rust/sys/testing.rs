// SPDX-License-Identifier: GPL-2.0

//! Gates of the test build: see `testing.h`. Empty in the ordinary build.

#![allow(unsafe_code)]

/// A point in map, unmap, merge, set policy or smash where a gate can stop the thread. `testing.h`
/// documents each.
#[allow(clippy::missing_docs_in_private_items)]
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
    StatePins,
    Charges,
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

    /// Passes the gate at `step`.
    #[inline(always)]
    pub(crate) fn step(_step: Step) {}

    /// Whether each group gets a domain of its own.
    #[inline(always)]
    pub(crate) fn wants_own_domains() -> bool {
        false
    }

    /// An ioctl, as long as it is in the module's code.
    pub(crate) struct Call;

    impl Call {
        /// It does nothing here.
        #[inline(always)]
        pub(crate) fn new() -> Self {
            Self
        }
    }

    /// The module is about to go: there is to be no ioctl in its code.
    #[inline(always)]
    pub(crate) fn expect_no_calls() {}

    /// Whether to treat the IOMMUs of new groups as without dirty bits.
    #[inline(always)]
    pub(crate) fn wants_no_dirty_bits() -> bool {
        false
    }
}

#[cfg(VFIO_PGSIZE_TEST)]
mod build {
    use super::Step;
    use crate::sys::bindings;

    // The enum of `testing.h` has the same order.
    const _: () = assert!(Step::MapInserted as u32 == bindings::PGSIZE_STEP_MAP_INSERTED);
    const _: () = assert!(Step::UnmapUnwatched as u32 == bindings::PGSIZE_STEP_UNMAP_UNWATCHED);
    const _: () = assert!(Step::SmashLocked as u32 + 1 == bindings::PGSIZE_STEP_CALL_ENTERS);

    /// Passes the gate at `step`.
    pub(crate) fn step(step: Step) {
        // SAFETY: `step` is a valid step. Steps of map and unmap are passed in process context
        // only.
        unsafe { bindings::pgsize_step(step as u32) };
    }

    /// Whether each group gets a domain of its own.
    pub(crate) fn wants_own_domains() -> bool {
        // SAFETY: It may be called from anywhere.
        unsafe { bindings::pgsize_own_domains() }
    }

    /// An ioctl, as long as it is in the module's code.
    pub(crate) struct Call(());

    impl Call {
        /// The ioctl begins.
        pub(crate) fn new() -> Self {
            // SAFETY: It may be called from anywhere.
            unsafe { bindings::pgsize_call_enters() };
            Self(())
        }
    }

    impl Drop for Call {
        fn drop(&mut self) {
            // SAFETY: It may be called from anywhere.
            unsafe { bindings::pgsize_call_leaves() };
        }
    }

    /// Warns if there is an ioctl in the module's code, which is about to go.
    pub(crate) fn expect_no_calls() {
        // SAFETY: It may be called from anywhere.
        unsafe { bindings::pgsize_no_calls() };
    }

    /// Whether to treat the IOMMUs of new groups as without dirty bits.
    pub(crate) fn wants_no_dirty_bits() -> bool {
        // SAFETY: It may be called from anywhere.
        unsafe { bindings::pgsize_no_dirty_bits() }
    }
}

pub(crate) use build::{
    expect_no_calls,
    step,
    wants_no_dirty_bits,
    wants_own_domains,
    Call, //
};
