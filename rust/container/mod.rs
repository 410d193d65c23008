// SPDX-License-Identifier: GPL-2.0

//! A container: one VMM's address space, and what belongs to it.
//!
//! Calls come from `uapi`: [`map`](Container::map) and [`populate`], [`unmap`] and [`release`],
//! [`apply`] for policies, [`page_state`], [`query`], [`stats`]; from VFIO: [`attach`], [`registry`],
//! [`close`]; and from the worker: [`worker`], [`repair`]. What they all share is here, and in
//! [`mapping`], [`claims`] and [`batch`].

mod apply;
mod attach;
mod batch;
mod boundaries;
mod change;
mod claiming;
mod claims;
mod close;
mod map;
mod mapping;
mod number;
mod page_state;
mod page_state_quick;
mod populate;
mod query;
pub(crate) mod registry;
mod release;
mod repair;
mod stats;
mod unmap;
mod worker;

pub(crate) use self::apply::Scope;
pub(crate) use self::change::{
    ChangeBuffers,
    PageState,
    StateChange, //
};
pub(crate) use self::map::MapRequest;
pub(crate) use self::query::{
    QueryOptions,
    Run,
    Wanted, //
};
pub(crate) use self::stats::stats;
pub(crate) use self::worker::init;

use core::sync::atomic::AtomicU32;

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        lock::mutex::MutexGuard,
        Arc,
        Mutex, //
    }, //
};

use self::{
    batch::Buffers,
    claims::Claims,
    mapping::{
        Mapping,
        Mappings,
        RemovedMappings, //
    },
    number::Number, //
};
use crate::{
    iommu::Windows,
    mm::Buffer,
    pgtable::{
        ContigRun,
        PageSizes,
        Phys, //
    },
    policy::Policy,
    rmp::{
        Domain,
        Follower,
        Hook, //
    },
    sys::{
        eventfd::Event,
        killable::lock_killable, //
    }, //
};

/// What a container has, and nobody else meanwhile.
type StateGuard<'a> = MutexGuard<'a, State>;

/// Contiguous runs that are unmapped with one flush, at most.
const MAX_CONTIGS: usize = 1024;

/// A container.
#[pin_data]
pub(crate) struct Container {
    pub(crate) number: Number,
    /// It is of `VFIO_PGSIZE_IOMMU`: it does what type1 refuses.
    pub(crate) extended: bool,
    /// What the worker has to look for, and was too busy for: a [`crate::rmp::Recheck`].
    pub(crate) recheck: AtomicU32,
    /// What a call that pins needs; in use if it is not there.
    #[pin]
    call_scratch: Mutex<Option<KBox<CallScratch>>>,
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
    removed: RemovedMappings,
    /// Where calls are at work that do not hold the lock.
    claims: Claims,
    pub(crate) domains: KVec<Domain>,
    pub(crate) windows: Windows,
    pub(crate) policy: Policy,
    /// There if anything is followed.
    pub(crate) hook: Option<Hook>,
    pub(crate) follower: Arc<Follower>,
    /// The fallbacks that there had been when all was last repaired.
    repaired: u64,
    /// By which the VMM is told.
    pub(crate) event: Option<Event>,
    /// How many mappings there may be in addition.
    pub(crate) avail: u32,
    /// Pages of stateful mappings, and those of them that are shared.
    pub(crate) stateful: u64,
    pub(crate) shared: u64,
    scratch: Scratch,
}

/// Memory that work needs, made beforehand: teardown must not fail.
struct Scratch {
    /// Empty between two uses.
    pub(super) contigs: KVVec<ContigRun>,
    pub(crate) frames: Frames,
}

/// What a call needs that pins, which it does without the container's lock: one is kept, others are
/// made for calls at the same time.
pub(crate) struct CallScratch {
    pub(crate) pins: Pins,
    pub(crate) changes: ChangeBuffers,
}

/// What is pinned, on its way to the page tables. Empty between two uses.
pub(crate) struct Pins {
    pub(crate) pages: Buffer,
    pub(crate) batch: Buffers,
}

impl CallScratch {
    fn new() -> Result<Self> {
        Ok(Self {
            pins: Pins {
                pages: Buffer::new()?,
                batch: Buffers::new()?,
            },
            changes: ChangeBuffers::default(),
        })
    }
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
            removed: RemovedMappings::none(),
            claims: Claims::new(),
            domains: KVec::new(),
            windows: Windows::none(),
            policy: Policy::any_size(),
            hook: None,
            follower: Follower::new(number.get())?,
            repaired: 0,
            event: None,
            avail: limit,
            stateful: 0,
            shared: 0,
            scratch: Scratch {
                contigs: KVVec::with_capacity(MAX_CONTIGS, GFP_KERNEL_ACCOUNT)?,
                frames: Frames::new()?,
            },
        };

        let call_scratch = KBox::new(CallScratch::new()?, GFP_KERNEL_ACCOUNT)?;

        Arc::pin_init(
            pin_init!(Self {
                number,
                extended,
                recheck: AtomicU32::new(0),
                call_scratch <- new_mutex!(Some(call_scratch), "vfio_pgsize::Container::call_scratch"),
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
}

impl State {
    /// The mappings that went. They are to be dropped when the lock is not held.
    fn take_removed(&mut self) -> RemovedMappings {
        core::mem::replace(&mut self.removed, RemovedMappings::none())
    }

    /// The domain to be read to learn what is mapped. One whose page table we can read ourselves is
    /// the quickest.
    fn source(&self) -> Option<usize> {
        let readable = |domain: &Domain| domain.table().is_some();

        self.domains
            .iter()
            .position(readable)
            .or((!self.domains.is_empty()).then_some(0))
    }

    /// The leaf sizes that every domain has.
    pub(crate) fn supported(&self) -> PageSizes {
        let pages = PageSizes::from_bits(!0xfff);

        self.domains
            .iter()
            .fold(pages, |sizes, domain| sizes.intersect(domain.sizes()))
    }
}

fn is_complete(mapping: &Mapping) -> bool {
    mapping.in_progress.is_none()
}

/// Pages of one change, at most: those of a table.
const PAGES: usize = 512;

/// Room for the frames of a change. One serves a container.
pub(crate) struct Frames(KVVec<Phys>);

impl Frames {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(KVVec::with_capacity(PAGES, GFP_KERNEL_ACCOUNT)?))
    }
}
