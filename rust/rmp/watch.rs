// SPDX-License-Identifier: GPL-2.0

//! A followed contiguous run: what the rmap and the tree of its domain have in common.
//!
//! There may be half a million of them for each terabyte: each is one object of 80 bytes, in both
//! trees.

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
    /// What is noted of a contiguous run.
    pub(super) fn marks<'g>(&'g mut self, watch: &'g Watch) -> &'g mut Marks {
        // SAFETY: By the invariants of `Watch` these are `Marks`. The lock is held, and the borrow of the
        // guard keeps others out.
        unsafe { &mut *(&raw mut (*watch.place()).marks).cast() }
    }

    /// The hook has this contiguous run from now on.
    pub(super) fn go_live(&mut self, watch: &Watch) {
        self.marks(watch).state = WatchState::Live;
    }

    /// A block of this contiguous run has small leaves, perhaps for nothing: the worker is to look at it when
    /// things have calmed down.
    pub(super) fn set_recheck(&mut self, watch: &Watch) {
        if watch.merging() != Merging::Never {
            self.marks(watch).recheck = true;
            work_later();
        }
    }
}

/// Whose contiguous runs are, and what becomes of them.
pub(crate) struct Owner {
    domain: NonNull<bindings::iommu_domain>,
    follower: Arc<Follower>,
    merging: Merging,
}

// SAFETY: The IOMMU core's functions on domains may be called from any thread.
unsafe impl Send for Owner {}

// SAFETY: As above; nothing of it changes.
unsafe impl Sync for Owner {}

impl Owner {
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

/// A followed contiguous run: blocks of one domain, from an IOVA on, that are contiguous.
///
/// # Invariants
///
/// - Of what is in a tree, the place is the first field, and does not move.
/// - The owner's domain is valid as long as this exists.
/// - `iova`, `first` and `last` of the place do not change; the marks are [`Marks`], read and written
///   under the lock of the tree.
#[repr(C)]
pub(crate) struct Watch {
    place: UnsafeCell<bindings::pgsize_place>,
    owner: Arc<Owner>,
}

// A terabyte can have half a million of them.
const _: () = assert!(size_of::<Watch>() == 80);

/// Whose a contiguous run is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WatchState {
    /// The hook's.
    Live,
    /// The same, and another one is to take its place: its mappings are not counted twice.
    BeingReplaced,
    /// Its mapper's, who is at work: the hook keeps its hands off.
    Pending,
    /// The same, and a smash came meanwhile.
    Hit,
}

/// What the hook and the worker tell each other of a contiguous run.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Marks {
    pub(super) state: WatchState,
    /// A leaf had to be unmapped.
    pub(crate) lost: bool,
    /// A block may be small for nothing: a page of it became shared, or a call was under way that broke
    /// nothing. The worker is to look.
    pub(super) recheck: bool,
}

impl Marks {
    /// Nothing is noted of a contiguous run yet that its mapper is at work on.
    const PENDING: Self = Self {
        state: WatchState::Pending,
        lost: false,
        recheck: false,
    };

    /// Whether it is its mapper's.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, WatchState::Pending | WatchState::Hit)
    }

    /// It is its mapper's.
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
    /// The contiguous run that a place of the trees is of.
    ///
    /// # Safety
    ///
    /// The place is in a tree, and is not removed while the result is used.
    pub(crate) unsafe fn of<'a>(place: *mut bindings::pgsize_place) -> &'a Self {
        // SAFETY: All places in trees are the first field of a `Watch`, by its invariants.
        unsafe { &*place.cast() }
    }

    /// A new one, for `range` and the frames from `phys` on: blocks of 2M, in both. It is pending, and
    /// in no tree.
    ///
    /// # Safety
    ///
    /// The owner's domain stays valid until it is freed.
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
        // SAFETY: The memory for it was made ready when the module was loaded.
        let memory = unsafe { bindings::pgsize_places_alloc() }.cast::<Self>();
        let memory = NonNull::new(memory).ok_or(ENOMEM)?;
        let watch = Self {
            place: UnsafeCell::new(place),
            owner,
        };

        // SAFETY: It is memory for one `Watch`.
        unsafe { memory.write(watch) };
        Ok(memory)
    }

    /// # Safety
    ///
    /// It came from [`Watch::alloc`], is in no tree, and nobody refers to it.
    pub(crate) unsafe fn free(watch: NonNull<Self>) {
        // SAFETY: By the requirement.
        unsafe {
            watch.drop_in_place();
            bindings::pgsize_places_free(watch.as_ptr().cast());
        }
    }

    /// Its place in the trees.
    pub(crate) fn place(&self) -> *mut bindings::pgsize_place {
        self.place.get()
    }

    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    pub(crate) fn domain(&self) -> NonNull<bindings::iommu_domain> {
        self.owner.domain
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.owner.follower.stats
    }

    /// What its container and the hook have in common.
    pub(crate) fn follower(&self) -> &Follower {
        &self.owner.follower
    }

    /// Whether a block that becomes whole gets a leaf of 2M.
    pub(crate) fn merges(&self) -> bool {
        self.merging() == Merging::WhenWhole
    }

    pub(crate) fn merging(&self) -> Merging {
        self.owner.merging
    }

    /// The first block, and the last, by their numbers.
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

    /// The IOVAs.
    pub(crate) fn range(&self) -> IovaRange {
        let (first, last) = self.blocks();
        let blocks = last.wrapping_sub(first).wrapping_add(1);

        IovaRange::with_len(self.start(), blocks.wrapping_mul(BLOCK_BYTES))
            .unwrap_or(IovaRange::block(self.start(), PageSize::SIZE_2M))
    }

    /// Where an IOVA of the contiguous run is.
    pub(crate) fn phys_at(&self, iova: Iova) -> Option<Phys> {
        let offset = iova.above(self.start());

        Phys::new(
            self.blocks()
                .0
                .wrapping_mul(BLOCK_BYTES)
                .wrapping_add(offset),
        )
    }

    /// The IOVAs of a block; `None` if it is not in the contiguous run.
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

/// Memory for contiguous runs; there as long as the module is loaded.
pub(crate) struct WatchCache(());

impl WatchCache {
    pub(crate) fn new() -> Result<Self> {
        const SIZE: u32 = size_of::<Watch>() as u32;
        // SAFETY: It is called once, when the module is loaded.
        kernel::error::to_result(unsafe { bindings::pgsize_places_init(SIZE) })?;
        Ok(Self(()))
    }
}

impl Drop for WatchCache {
    fn drop(&mut self) {
        // SAFETY: The module goes: there are no contiguous runs any more.
        unsafe { bindings::pgsize_places_exit() };
    }
}
