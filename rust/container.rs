// SPDX-License-Identifier: GPL-2.0

//! A container: one VMM's address space, and what belongs to it.

use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

use crate::{
    batch::Buffers,
    domain::{
        Domain,
        Stretch, //
    },
    mapping::Mappings,
    pin::Buffer,
    policy::Policy,
    windows::Windows, //
};

/// Stretches that are unmapped with one flush, at most.
const STRETCHES: usize = 1024;

/// A container.
#[pin_data]
pub(crate) struct Container {
    /// Everything: see the lock order in the crate's documentation.
    #[pin]
    pub(crate) state: Mutex<State>,
}

/// What a container has.
///
/// # Invariants
///
/// - Every mapping is mapped, all of it, in every domain, and each of its pages that is memory is
///   pinned once. No leaf crosses an end of a mapping.
/// - With no domain there is no mapping.
pub(crate) struct State {
    pub(crate) mappings: Mappings,
    pub(crate) domains: KVec<Domain>,
    pub(crate) windows: Windows,
    pub(crate) policy: Policy,
    /// How many mappings there may be in addition.
    pub(crate) avail: u32,
    pub(crate) scratch: Scratch,
}

/// Memory that work needs, made beforehand: teardown must not fail.
pub(crate) struct Scratch {
    pub(crate) pages: Buffer,
    pub(crate) batch: Buffers,
    pub(crate) stretches: KVVec<Stretch>,
}

impl Container {
    /// A container without groups, which can have `limit` mappings.
    pub(crate) fn new(limit: u32) -> Result<Pin<KBox<Self>>> {
        let state = State {
            mappings: Mappings::new(),
            domains: KVec::new(),
            windows: Windows::none(),
            policy: Policy::any_size(),
            avail: limit,
            scratch: Scratch {
                pages: Buffer::new()?,
                batch: Buffers::new()?,
                stretches: KVVec::with_capacity(STRETCHES, GFP_KERNEL_ACCOUNT)?,
            },
        };

        KBox::pin_init(
            pin_init!(Self {
                state <- new_mutex!(state, "vfio_pgsize::Container::state"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.unmap_all();
    }
}
