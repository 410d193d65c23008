// SPDX-License-Identifier: GPL-2.0

//! A container: the address space of one VMM.
//!
//! Calls come from `uapi` ([`map`](Container::map), [`unmap`], [`vaddr`], [`apply`] for policies,
//! [`page_state`], [`dirty`] tracking, [`query`], [`mod@stats`]), from VFIO ([`attach`],
//! [`registry`], [`close`]) and from the worker ([`worker`], [`repair`]). [`join_map`] and
//! [`join_unmap`] are for pieces of [`joined`] mappings. They share [`mapping`], [`claims`],
//! [`populate`] (pin and map), [`batch`] and [`release`] (unmap and unpin).

mod apply;
mod attach;
mod batch;
mod bitmap;
mod boundaries;
mod change;
mod claiming;
mod claims;
mod close;
mod crossing;
mod default;
mod devices;
mod dirty;
mod dma_rw;
mod emulated;
mod groups;
mod in_force;
mod join_map;
mod join_unmap;
mod joined;
mod joined_entry;
mod last_domain;
mod late_attach;
mod map;
mod map_request;
mod mapping;
mod number;
mod owner;
mod page_state;
mod page_state_quick;
mod parts;
mod payers;
mod pieces;
mod pin_pages;
mod pins;
mod populate;
mod query;
pub(crate) mod registry;
mod release;
mod repair;
mod separate;
mod stats;
mod track;
mod tracking;
mod unmap;
mod vaddr;
mod warn;
mod warned;
mod worker;
mod written;

pub(crate) use self::apply::Scope;
pub(crate) use self::bitmap::Piece;
pub(crate) use self::change::{
    ChangeBuffers,
    PageState,
    StateChange, //
};
pub(crate) use self::crossing::Crossing;
pub(crate) use self::devices::Device;
pub(crate) use self::dirty::{
    Answer,
    Missing, //
};
pub(crate) use self::map_request::MapRequest;
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
    default::default_rule,
    devices::Devices,
    mapping::{
        Mapping,
        Mappings,
        RemovedMappings, //
    },
    number::Number,
    owner::Owner,
    payers::Payers,
    pins::Emulated,
    tracking::Tracking,
    warned::Warned, //
};
use crate::{
    iommu::Windows,
    mm::Buffer,
    pgtable::{
        ContigRun,
        PageSizes, //
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

/// The state of a container, locked.
type StateGuard<'a> = MutexGuard<'a, State>;

/// Maximum number of contiguous runs that are unmapped with one flush.
const MAX_CONTIGS: usize = 1024;

/// The VFIO IOMMU type of a container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `VFIO_TYPE1_IOMMU`, which unmaps mappings only whole.
    Type1,
    /// `VFIO_TYPE1v2_IOMMU`.
    Type1v2,
    /// `VFIO_PGSIZE_IOMMU`, which has more calls and flags than type1v2.
    Pgsize,
}

impl Kind {
    /// The word for debugfs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Type1 => "type1",
            Self::Type1v2 => "type1v2",
            Self::Pgsize => "pgsize",
        }
    }

    /// What `VFIO_IOMMU_UNMAP_DMA` does to mappings that cross an end of its range.
    pub(crate) fn crossing(self) -> Crossing {
        match self {
            Self::Type1 => Crossing::Whole,
            Self::Type1v2 => Crossing::Refuse,
            Self::Pgsize => Crossing::Split,
        }
    }
}

/// Settings that a container keeps.
pub(crate) struct Settings {
    /// See [`Container::kind`].
    pub(crate) kind: Kind,
    /// See [`Container::joins`].
    pub(crate) joins: bool,
    /// Limit of mappings that are not joined.
    pub(crate) entry_limit: u32,
    /// Limit of joined mappings.
    pub(crate) joined_entry_limit: u32,
}

/// A container.
#[pin_data]
pub(crate) struct Container {
    /// Its number, by which VFIO, debugfs and the worker find it.
    pub(crate) number: Number,
    /// Its VFIO IOMMU type.
    pub(crate) kind: Kind,
    /// Join all mappings that can be joined, whether they ask for it or not.
    pub(crate) joins: bool,
    /// The process that set its IOMMU.
    pub(crate) owner: Owner,
    /// A pending [`crate::rmp::Recheck`] that the worker could not do because the state was locked.
    pub(crate) recheck: AtomicU32,
    /// Buffers for a call that pins; `None` while a call uses them.
    #[pin]
    call_scratch: Mutex<Option<KBox<CallScratch>>>,
    /// Open devices that may have pinned pages.
    #[pin]
    devices: Devices,
    /// All other state. The crate's documentation has the lock order. ioctls use
    /// [`Container::lock`].
    #[pin]
    pub(crate) state: Mutex<State>,
}

/// The state of a container.
///
/// # Invariants
///
/// - Every mapping is mapped in every domain: the whole mapping; if it is stateful, its shared
///   pages; if it is in progress, as much as it says. Each mapped page of memory is pinned once. No
///   leaf crosses an end of a mapping.
/// - Without a group there is no mapping. Without a domain nothing is mapped, and all pages of
///   stateful mappings are private.
/// - A closed container has no domain, and gets none.
pub(crate) struct State {
    /// VFIO has released the container. Later calls fail.
    closed: bool,
    /// The mappings.
    pub(crate) mappings: Mappings,
    /// Mappings that were removed since the lock was taken.
    removed: RemovedMappings,
    /// Ranges on which calls work without the lock.
    claims: Claims,
    /// The domains. Each has at least one group.
    pub(crate) domains: KVec<Domain>,
    /// Groups of emulated devices, and the pages that these have pinned.
    emulated: Emulated,
    /// The usable IOVA windows.
    pub(crate) windows: Windows,
    /// The policy for new leaves. It differs from [`State::chosen_policy`] while tracking is on.
    pub(crate) policy: Policy,
    /// The policy of the container is the module's default: the VMM has set none.
    pub(crate) has_default: bool,
    /// `Some` while dirty tracking is on.
    tracking: Option<Tracking>,
    /// The leaf sizes that are allowed while tracking is on.
    tracking_sizes: PageSizes,
    /// `Some` if anything follows the RMP.
    pub(crate) hook: Option<Hook>,
    /// What the hook and this container share.
    pub(crate) follower: Arc<Follower>,
    /// What the log says of failures.
    warned: Warned,
    /// The number of fallbacks at the last repair.
    repaired: u64,
    /// The eventfd of `VFIO_PGSIZE_SET_EVENT`.
    pub(crate) event: Option<Event>,
    /// Number of further mappings that are allowed (`dma_entry_limit`).
    pub(crate) avail: u32,
    /// Limit of joined mappings.
    joined_limit: u32,
    /// Processes that are charged for joined mappings.
    payers: Payers,
    /// Number of pages of stateful mappings.
    pub(crate) stateful: u64,
    /// Number of shared pages of stateful mappings.
    pub(crate) shared: u64,
    scratch: Scratch,
}

/// Preallocated memory, since teardown must not fail.
struct Scratch {
    /// Empty between two uses.
    pub(super) contigs: KVVec<ContigRun>,
}

/// Buffers for a call that pins, which it uses without the container's lock. One is kept;
/// concurrent calls allocate more.
pub(crate) struct CallScratch {
    /// For pinned memory.
    pub(crate) pins: Pins,
    /// For page state changes.
    pub(crate) changes: ChangeBuffers,
}

/// Buffers for pinned memory on its way to the page tables. Empty between two uses.
pub(crate) struct Pins {
    /// For one GUP call.
    pub(crate) pages: Buffer,
    /// For one batch.
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

/// Fails with `EINVAL` if the container is closed.
fn open(state: StateGuard<'_>) -> Result<StateGuard<'_>> {
    if state.closed {
        return Err(EINVAL);
    }
    Ok(state)
}

impl Container {
    /// A container without groups. Fails with `ENOMEM`, and `ENOSPC`
    /// as [`Number::new`].
    pub(crate) fn new(settings: Settings) -> Result<Arc<Self>> {
        let number = Number::new()?;
        let owner = Owner::current();
        let (rule, hook) = default_rule(&owner);
        let state = State {
            closed: false,
            mappings: Mappings::new(),
            removed: RemovedMappings::none(),
            claims: Claims::new(),
            domains: KVec::new(),
            emulated: Emulated::new(),
            windows: Windows::none(),
            policy: Policy::any_size().with_rule(rule)?,
            has_default: true,
            tracking: None,
            tracking_sizes: PageSizes::ONLY_4K,
            hook,
            follower: Follower::new(number.get())?,
            warned: Warned::default(),
            repaired: 0,
            event: None,
            avail: settings.entry_limit,
            joined_limit: settings.joined_entry_limit,
            payers: Payers::new(),
            stateful: 0,
            shared: 0,
            scratch: Scratch {
                contigs: KVVec::with_capacity(MAX_CONTIGS, GFP_KERNEL_ACCOUNT)?,
            },
        };

        let call_scratch = KBox::new(CallScratch::new()?, GFP_KERNEL_ACCOUNT)?;

        Arc::pin_init(
            pin_init!(Self {
                number,
                kind: settings.kind,
                joins: settings.joins,
                owner,
                recheck: AtomicU32::new(0),
                call_scratch <- new_mutex!(Some(call_scratch), "vfio_pgsize::Container::call_scratch"),
                devices <- Devices::new(),
                state <- new_mutex!(state, "vfio_pgsize::Container::state"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Whether it can have joined mappings.
    fn may_join(&self) -> bool {
        self.joins || self.kind == Kind::Pgsize
    }

    /// Locks the state, for an ioctl. Sleeps. Fails with `EINVAL` if the container is closed, as
    /// VFIO does without a backend, and with `EINTR` on a fatal signal.
    pub(crate) fn lock(&self) -> Result<StateGuard<'_>> {
        open(lock_killable(&self.state)?)
    }

    /// As [`Self::lock`], without sleeping; `None` if the state is locked.
    pub(crate) fn try_lock(&self) -> Option<Result<StateGuard<'_>>> {
        self.state.try_lock().map(open)
    }
}

impl State {
    /// The removed mappings. Drop them after the lock.
    fn take_removed(&mut self) -> RemovedMappings {
        core::mem::replace(&mut self.removed, RemovedMappings::none())
    }

    /// The domain from which mappings are read: preferably one whose page table can be read
    /// directly.
    fn source(&self) -> Option<usize> {
        let readable = |domain: &Domain| domain.table().is_some();

        self.domains
            .iter()
            .position(readable)
            .or((!self.domains.is_empty()).then_some(0))
    }

    /// The leaf sizes that all domains support.
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
