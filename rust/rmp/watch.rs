// SPDX-License-Identifier: GPL-2.0

//! A watch: a contiguous run that follows the RMP. It is in the rmap and in the tree of its domain.
//!
//! There may be half a million watches per terabyte. Each is one object of 80 bytes.

#![allow(unsafe_code)]

use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    entry::{
        Block,
        BLOCK,
        BLOCK_BYTES, //
    },
    follower::{
        Follower,
        Stats, //
    },
    lock::Guard,
    work::work_later, //
};
use crate::{
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        Phys, //
    },
    policy::Merging,
    sys::bindings, //
};

impl Guard {
    /// The marks of `watch`.
    pub(super) fn marks<'g>(&'g mut self, watch: &'g Watch) -> &'g mut Marks {
        // SAFETY: By the invariants of `Watch` these are `Marks`. The lock is held, and the borrow
        // of the guard excludes other users.
        unsafe { &mut *(&raw mut (*watch.place()).marks).cast() }
    }

    /// Gives `watch` to the hook.
    pub(super) fn go_live(&mut self, watch: &Watch) {
        self.marks(watch).state = WatchState::Live;
    }

    /// Marks `watch` for recheck: a block may have small leaves without need. The worker looks at
    /// it later.
    pub(super) fn set_recheck(&mut self, watch: &Watch) {
        if watch.merging() != Merging::Never {
            self.marks(watch).recheck = true;
            work_later();
        }
    }
}

/// What the watches of a domain with the same rule have in common.
pub(crate) struct Owner {
    domain: NonNull<bindings::iommu_domain>,
    follower: Arc<Follower>,
    merging: Merging,
}

// SAFETY: The IOMMU core allows calls on a domain from any thread.
unsafe impl Send for Owner {}

// SAFETY: As above; nothing changes after creation.
unsafe impl Sync for Owner {}

impl Owner {
    /// For watches of `domain`. Fails with `ENOMEM`.
    pub(crate) fn new(
        domain: NonNull<bindings::iommu_domain>,
        merging: Merging,
        follower: &Arc<Follower>,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                domain,
                follower: follower.clone(),
                merging,
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }
}

/// A contiguous run that follows the RMP: whole blocks of one domain.
///
/// # Invariants
///
/// - While it is in a tree it does not move. The node is the first field.
/// - The domain of the owner lives longer.
/// - `iova`, `first` and `last` of the node do not change. The marks are [`Marks`], protected by
///   the rmap's lock.
#[repr(C)]
pub(crate) struct Watch {
    place: UnsafeCell<bindings::pgsize_place>,
    owner: Arc<Owner>,
}

// There may be half a million per terabyte.
const _: () = assert!(size_of::<Watch>() == 80);

/// Who may edit the leaves of a watch.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WatchState {
    /// The hook.
    Live,
    /// The hook. A new watch is about to replace it, so it does not count for `EMLINK`.
    BeingReplaced,
    /// The mapper, which is at work. The hook does not edit.
    Pending,
    /// The mapper, and a call that may break a block has entered meanwhile.
    Hit,
}

/// The state of a watch, and what is left to do for it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Marks {
    pub(super) state: WatchState,
    /// The hook has unmapped a leaf.
    pub(crate) lost: bool,
    /// A block may have small leaves without need: a page of it became shared, or a call broke
    /// nothing. The worker has to look.
    pub(super) recheck: bool,
}

impl Marks {
    /// Of a new watch.
    const PENDING: Self = Self {
        state: WatchState::Pending,
        lost: false,
        recheck: false,
    };

    /// Whether the mapper owns the leaves.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, WatchState::Pending | WatchState::Hit)
    }

    /// Gives the leaves to the mapper.
    pub(super) fn set_pending(&mut self) {
        if !self.is_pending() {
            self.state = WatchState::Pending;
        }
    }

    fn bytes(self) -> [u8; 4] {
        [self.state as u8, self.lost.into(), self.recheck.into(), 0]
    }
}

impl Watch {
    /// The watch of a node.
    ///
    /// # Safety
    ///
    /// The node is in a tree, and is not removed while the result is used.
    pub(crate) unsafe fn of<'a>(place: *mut bindings::pgsize_place) -> &'a Self {
        // SAFETY: By the invariants of `Watch`, all nodes in trees are its first field.
        unsafe { &*place.cast() }
    }

    /// Allocates a watch for `range`, mapped to the frames from `phys` on; both are 2M-aligned. It
    /// is pending and in no tree. Fails with `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The domain of the owner lives longer than the watch.
    pub(crate) unsafe fn alloc(
        range: IovaRange,
        phys: Phys,
        owner: Arc<Owner>,
    ) -> Result<NonNull<Self>> {
        let blocks = range.pages() / BLOCK;
        let first = Block::of(phys).number();
        let last = first.wrapping_add(blocks.wrapping_sub(1));
        let place = bindings::pgsize_place {
            iova: range.start().get(),
            first: u32::try_from(first)?,
            last: u32::try_from(last)?,
            marks: Marks::PENDING.bytes(),
            ..Default::default()
        };
        // SAFETY: The cache was created when the module was loaded.
        let memory = unsafe { bindings::pgsize_places_alloc() }.cast::<Self>();
        let memory = NonNull::new(memory).ok_or(ENOMEM)?;
        let watch = Self {
            place: UnsafeCell::new(place),
            owner,
        };

        // SAFETY: The memory has the size of a `Watch`.
        unsafe { memory.write(watch) };
        Ok(memory)
    }

    /// Frees a watch.
    ///
    /// # Safety
    ///
    /// It comes from [`Watch::alloc`], is in no tree, and has no other user.
    pub(crate) unsafe fn free(watch: NonNull<Self>) {
        // SAFETY: By the requirement.
        unsafe {
            watch.drop_in_place();
            bindings::pgsize_places_free(watch.as_ptr().cast());
        }
    }

    /// The node, for the trees.
    pub(crate) fn place(&self) -> *mut bindings::pgsize_place {
        self.place.get()
    }

    /// The owner.
    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// The kernel's domain.
    pub(crate) fn domain(&self) -> NonNull<bindings::iommu_domain> {
        self.owner.domain
    }

    /// The counters of the container.
    pub(crate) fn stats(&self) -> &Stats {
        &self.owner.follower.stats
    }

    /// What its container and the hook share.
    pub(crate) fn follower(&self) -> &Follower {
        &self.owner.follower
    }

    /// Whether a block that becomes whole gets a 2M leaf.
    pub(crate) fn merges(&self) -> bool {
        self.merging() == Merging::WhenWhole
    }

    /// When 2M leaves return.
    pub(crate) fn merging(&self) -> Merging {
        self.owner.merging
    }

    /// The numbers of the first and the last block.
    pub(super) fn numbers(&self) -> (u32, u32) {
        let place = self.place.get();

        // SAFETY: By the type invariants they do not change.
        unsafe { ((*place).first, (*place).last) }
    }

    fn blocks(&self) -> (u64, u64) {
        let (first, last) = self.numbers();

        (first.into(), last.into())
    }

    fn start(&self) -> Iova {
        // SAFETY: By the type invariants it does not change.
        Iova::new(unsafe { (*self.place.get()).iova })
    }

    /// The IOVA range.
    pub(crate) fn range(&self) -> IovaRange {
        let (first, last) = self.blocks();
        let blocks = last.wrapping_sub(first).wrapping_add(1);

        IovaRange::with_len(self.start(), blocks.wrapping_mul(BLOCK_BYTES))
            .unwrap_or(IovaRange::block(self.start(), PageSize::SIZE_2M))
    }

    /// The physical address of `iova`, which is in the range.
    pub(crate) fn phys_at(&self, iova: Iova) -> Option<Phys> {
        let offset = iova.above(self.start());

        Phys::new(
            self.blocks()
                .0
                .wrapping_mul(BLOCK_BYTES)
                .wrapping_add(offset),
        )
    }

    /// The IOVA range of `block`; `None` if the watch does not contain it.
    pub(super) fn iovas_of(&self, block: Block) -> Option<IovaRange> {
        let (first, last) = self.blocks();
        let ahead = block
            .number()
            .checked_sub(first)
            .filter(|_| block.number() <= last)?;
        let start = self.start().checked_add(ahead.wrapping_mul(BLOCK_BYTES))?;

        Some(IovaRange::block(start, PageSize::SIZE_2M))
    }
}

/// The slab cache of watches. Exists while the module is loaded.
pub(crate) struct WatchCache(());

impl WatchCache {
    /// Creates the cache. Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        const SIZE: u32 = size_of::<Watch>() as u32;
        // SAFETY: Called once, when the module is loaded.
        kernel::error::to_result(unsafe { bindings::pgsize_places_init(SIZE) })?;
        Ok(Self(()))
    }
}

impl Drop for WatchCache {
    fn drop(&mut self) {
        // SAFETY: The module is being unloaded: there are no watches.
        unsafe { bindings::pgsize_places_exit() };
    }
}
