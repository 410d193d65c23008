// SPDX-License-Identifier: GPL-2.0

//! A container: one VMM's address space, and what belongs to it.

#![allow(unsafe_code)]

use core::sync::atomic::AtomicU32;

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        MutexGuard, //
    }, //
};

use crate::{
    batch::Buffers,
    domain::Domain,
    event::Event,
    follow::Hook,
    follower::Follower,
    mapping::Mappings,
    pin::Buffer,
    policy::Policy,
    quick::Frames,
    registry::{
        Number,
        CONTAINERS, //
    },
    stretch::Stretch,
    uapi::Changes,
    windows::Windows, //
};

/// Stretches that are unmapped with one flush, at most.
const STRETCHES: usize = 1024;

/// A container.
#[pin_data]
pub(crate) struct Container {
    pub(crate) number: Number,
    /// It is of `VFIO_PGSIZE_IOMMU`: it does what type1 refuses.
    pub(crate) extended: bool,
    /// What the worker has to look for, and was too busy for: a [`crate::follow::Look`].
    pub(crate) look: AtomicU32,
    /// Page-state changes, while they are read and made.
    #[pin]
    pub(crate) changes: Mutex<Changes>,
    /// Everything: see the lock order in the crate's documentation. Calls of userspace take it by
    /// [`Container::lock`].
    #[pin]
    pub(crate) state: Mutex<State>,
}

/// What a container has.
///
/// # Invariants
///
/// - Every mapping is mapped in every domain, all of it, or, if it is stateful, those of its pages that
///   are shared. Each page that is mapped is pinned once, if it is memory. No leaf crosses an end of a
///   mapping.
/// - With no domain there is no mapping.
/// - Once it is closed there is no domain, and never will be.
pub(crate) struct State {
    /// VFIO has released the container: who comes now comes too late.
    closed: bool,
    pub(crate) mappings: Mappings,
    pub(crate) domains: KVec<Domain>,
    pub(crate) windows: Windows,
    pub(crate) policy: Policy,
    /// There if anything is followed.
    pub(crate) hook: Option<Hook>,
    pub(crate) follower: Arc<Follower>,
    /// The fallbacks that there had been when all was last repaired.
    pub(crate) repaired: u64,
    /// By which the VMM is told.
    pub(crate) event: Option<Event>,
    /// How many mappings there may be in addition.
    pub(crate) avail: u32,
    /// Pages of stateful mappings, and those of them that are shared.
    pub(crate) stateful: u64,
    pub(crate) shared: u64,
    pub(crate) scratch: Scratch,
}

/// Memory that work needs, made beforehand: teardown must not fail.
pub(crate) struct Scratch {
    pub(crate) pages: Buffer,
    pub(crate) batch: Buffers,
    /// Empty between two uses.
    pub(crate) stretches: KVVec<Stretch>,
    pub(crate) frames: Frames,
}

/// Makes the module's locks ready: once, before anything else.
pub(crate) fn init_locks() {
    // SAFETY: It is called when the module is loaded, once.
    unsafe { CONTAINERS.init() };
    // SAFETY: As above.
    unsafe { crate::follow::HOOKS.init() };
}

impl Container {
    /// A container without groups, which can have `limit` mappings.
    pub(crate) fn new(extended: bool, limit: u32) -> Result<Arc<Self>> {
        let number = Number::new()?;
        let state = State {
            closed: false,
            mappings: Mappings::new(),
            domains: KVec::new(),
            windows: Windows::none(),
            policy: Policy::any_size(),
            hook: None,
            follower: Follower::new(number)?,
            repaired: 0,
            event: None,
            avail: limit,
            stateful: 0,
            shared: 0,
            scratch: Scratch {
                pages: Buffer::new()?,
                batch: Buffers::new()?,
                stretches: KVVec::with_capacity(STRETCHES, GFP_KERNEL_ACCOUNT)?,
                frames: Frames::new()?,
            },
        };

        Arc::pin_init(
            pin_init!(Self {
                number,
                extended,
                look: AtomicU32::new(0),
                changes <- new_mutex!(Changes::default(), "vfio_pgsize::Container::changes"),
                state <- new_mutex!(state, "vfio_pgsize::Container::state"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// What it has, for a call of userspace's. Fails with `EINVAL`, as VFIO answers for a container
    /// that has no backend, if it is closed meanwhile.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();

        if state.closed {
            return Err(EINVAL);
        }
        Ok(state)
    }

    /// Empties it for good. Whoever still has a reference to it finds it closed.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();

        state.unmap_all();
        state.domains = KVec::new();
        state.hook = None;
        state.event = None;
        state.keep_reserve();
        // INVARIANT: The domains are gone. [`Container::lock`] lets nobody in any more, and VFIO
        // attaches no group to what it has released.
        state.closed = true;
    }
}
