// SPDX-License-Identifier: GPL-2.0

//! A container: one VMM's address space, and what belongs to it.

#![allow(unsafe_code)]

use core::sync::atomic::AtomicU32;

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use crate::{
    batch::Buffers,
    claim::Claims,
    domain::Domain,
    event::Event,
    follow::Hook,
    follower::Follower,
    killable::{
        lock_killable,
        StateGuard, //
    },
    mapping::{
        Gone,
        Mappings, //
    },
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
    /// What a call that pins needs; in use if it is not there.
    #[pin]
    tools: Mutex<Option<KBox<Tools>>>,
    /// Everything else: see the lock order in the crate's documentation. Calls of userspace take it by
    /// [`Container::lock`].
    #[pin]
    pub(crate) state: Mutex<State>,
}

/// What a container has.
///
/// # Invariants
///
/// - Every mapping is mapped in every domain, all of it, or, if it is stateful, those of its pages that
///   are shared, or, if it is nascent, as far as it says. Each page that is mapped is pinned once, if it
///   is memory. No leaf crosses an end of a mapping.
/// - With no domain there is no mapping.
/// - Once it is closed there is no domain, and never will be.
pub(crate) struct State {
    /// VFIO has released the container: who comes now comes too late.
    closed: bool,
    pub(crate) mappings: Mappings,
    /// Those that went while the lock is held.
    pub(crate) gone: Gone,
    /// Where calls are at work that do not hold the lock.
    pub(crate) claims: Claims,
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
    /// Empty between two uses.
    pub(crate) stretches: KVVec<Stretch>,
    pub(crate) frames: Frames,
}

/// What a call needs that pins, which it does without the container's lock: one is kept, others are
/// made for calls at the same time.
pub(crate) struct Tools {
    pub(crate) pins: Pins,
    pub(crate) changes: Changes,
}

/// What is pinned, on its way to the page tables. Empty between two uses.
pub(crate) struct Pins {
    pub(crate) pages: Buffer,
    pub(crate) batch: Buffers,
}

impl Tools {
    fn new() -> Result<Self> {
        Ok(Self {
            pins: Pins {
                pages: Buffer::new()?,
                batch: Buffers::new()?,
            },
            changes: Changes::default(),
        })
    }
}

/// Makes the module's locks ready: once, before anything else.
pub(crate) fn init_locks() {
    // SAFETY: It is called when the module is loaded, once.
    unsafe { CONTAINERS.init() };
    // SAFETY: As above.
    unsafe { crate::follow::HOOKS.init() };
}

/// What a container has that is not closed.
fn open(state: StateGuard<'_>) -> Result<StateGuard<'_>> {
    if state.closed {
        return Err(EINVAL);
    }
    Ok(state)
}

impl Container {
    /// A container without groups, which can have `limit` mappings.
    pub(crate) fn new(extended: bool, limit: u32) -> Result<Arc<Self>> {
        let number = Number::new()?;
        let state = State {
            closed: false,
            mappings: Mappings::new(),
            gone: Gone::none(),
            claims: Claims::new(),
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
                stretches: KVVec::with_capacity(STRETCHES, GFP_KERNEL_ACCOUNT)?,
                frames: Frames::new()?,
            },
        };

        let tools = KBox::new(Tools::new()?, GFP_KERNEL_ACCOUNT)?;

        Arc::pin_init(
            pin_init!(Self {
                number,
                extended,
                look: AtomicU32::new(0),
                tools <- new_mutex!(Some(tools), "vfio_pgsize::Container::tools"),
                state <- new_mutex!(state, "vfio_pgsize::Container::state"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// What it has, for a call of userspace's. Fails with `EINVAL`, as VFIO answers for a container
    /// that has no backend, if it is closed meanwhile, and with `EINTR` if a fatal signal came while
    /// others had it.
    pub(crate) fn lock(&self) -> Result<StateGuard<'_>> {
        open(lock_killable(&self.state)?)
    }

    /// The same at once; `None`: others have it.
    pub(crate) fn try_lock(&self) -> Option<Result<StateGuard<'_>>> {
        self.state.try_lock().map(open)
    }

    /// Empties it for good. Whoever still has a reference to it finds it closed.
    pub(crate) fn close(&self) {
        self.at_once(|state| {
            state.unmap_at_end();
            state.domains = KVec::new();
            state.hook = None;
            state.event = None;
            state.keep_reserve();
            // INVARIANT: The domains are gone. [`Container::lock`] lets nobody in any more, and VFIO
            // attaches no group to what it has released.
            state.closed = true;
        });
    }

    /// Runs `work` with tools of its own.
    pub(crate) fn with_tools<R>(&self, work: impl FnOnce(&mut Tools) -> Result<R>) -> Result<R> {
        let kept = self.tools.lock().take();
        let mut tools = match kept {
            Some(tools) => tools,
            None => KBox::new(Tools::new()?, GFP_KERNEL_ACCOUNT)?,
        };
        let result = work(&mut tools);
        let spare = self.tools.lock().replace(tools);

        drop(spare);
        result
    }

    /// Runs `work`, which can not fail, and settles the accounts of the mappings that went.
    pub(crate) fn at_once<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, gone) = {
            let mut state = self.state.lock();
            let result = work(&mut state);
            (result, state.take_gone())
        };

        drop(gone);
        result
    }
}

impl State {
    /// The mappings that went. They are to be dropped when the lock is not held.
    pub(crate) fn take_gone(&mut self) -> Gone {
        core::mem::replace(&mut self.gone, Gone::none())
    }
}
