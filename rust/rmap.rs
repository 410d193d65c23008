// SPDX-License-Identifier: GPL-2.0

//! From frames to leaves: which stretches of which domains follow the RMP.
//!
//! One interval tree over the frames of all followed stretches, of all containers. A stretch, not a
//! leaf, has a node: what leaves it has is read from its page table. So a contiguous terabyte is one
//! node, and splits and merges change nothing here. The same node is in the tree of its domain, by
//! IOVA: see [`watches`](crate::watches) and `places.c`.
//!
//! # Rules
//!
//! The lock of the tree, irq-safe, is the right to edit leaves of 2M and more in followed stretches.
//! The hook has it while it edits and until the IOTLB is flushed. A stretch that is *pending* is its
//! mapper's, who holds the container's mutex: the hook only notes that it was *hit*, and the mapper
//! looks at the RMP again before it lets the hook have it.

#![allow(unsafe_code)]

use core::{
    cell::UnsafeCell,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    bindings,
    follower::{
        Follower,
        Stats, //
    },
    num::to_usize,
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        Phys, //
    },
    rmp::{
        Block,
        BLOCK,
        BLOCK_BYTES, //
    }, //
};

/// Blocks that are in transition are counted by a hash of them.
const BUCKETS: usize = 256;

fn bucket_of(block: Block) -> usize {
    to_usize(block.number()) % BUCKETS
}

/// Whose stretches are, and what becomes of them.
pub(crate) struct Owner {
    domain: NonNull<bindings::iommu_domain>,
    follower: Arc<Follower>,
    merge: bool,
}

// SAFETY: The IOMMU core's functions on domains may be called from any thread.
unsafe impl Send for Owner {}
// SAFETY: As above; nothing of it changes.
unsafe impl Sync for Owner {}

impl Owner {
    pub(crate) fn new(
        domain: NonNull<bindings::iommu_domain>,
        merge: bool,
        follower: &Arc<Follower>,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                domain,
                follower: follower.clone(),
                merge,
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }
}

/// A followed stretch: blocks of one domain, from an IOVA on, that are contiguous.
///
/// # Invariants
///
/// - The first field is in the tree from [`NewWatch::new`] to drop, and does not move.
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

/// What the hook and the worker tell each other of a stretch.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Marks {
    /// Its mapper is at work: the hook keeps its hands off.
    pub(crate) pending: bool,
    /// A smash came meanwhile.
    pub(crate) hit: bool,
    /// A leaf had to be unmapped.
    pub(crate) lost: bool,
    /// A page became shared: a block may be whole.
    pub(crate) shared: bool,
}

impl Watch {
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

    pub(crate) fn merges(&self) -> bool {
        self.owner.merge
    }

    /// The first block, and the last.
    fn blocks(&self) -> (u64, u64) {
        let place = self.place.get();
        // SAFETY: By the type invariants they do not change.
        let (first, last) = unsafe { ((*place).first, (*place).last) };

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

    /// Where an IOVA of the stretch is.
    pub(crate) fn phys_at(&self, iova: Iova) -> Option<Phys> {
        let offset = iova.above(self.start());

        Phys::new(
            self.blocks()
                .0
                .wrapping_mul(BLOCK_BYTES)
                .wrapping_add(offset),
        )
    }

    /// The IOVAs of a block; `None` if it is not in the stretch.
    fn iovas_of(&self, block: Block) -> Option<IovaRange> {
        let (first, last) = self.blocks();
        let ahead = block
            .number()
            .checked_sub(first)
            .filter(|_| block.number() <= last)?;
        let start = self.start().checked_add(ahead.wrapping_mul(BLOCK_BYTES))?;

        Some(IovaRange::block(start, PageSize::SIZE_2M))
    }
}

/// A stretch that the hook knows, and no domain does: it is followed until this is dropped.
///
/// # Invariants
///
/// A `Watch` from [`bindings::pgsize_places_alloc`], which nobody else has.
pub(crate) struct NewWatch(NonNull<Watch>);

impl NewWatch {
    /// Follows `range`, which is mapped, or about to be if `pending`, to the frames from `phys` on:
    /// blocks of 2M, in both.
    ///
    /// # Safety
    ///
    /// The owner's domain stays valid until the result is dropped.
    pub(crate) unsafe fn new(
        range: IovaRange,
        phys: Phys,
        pending: bool,
        owner: Arc<Owner>,
    ) -> Result<Self> {
        let blocks = range.pages() / BLOCK;
        let first = Block::of(phys).number();
        let last = first.wrapping_add(blocks.wrapping_sub(1));
        let place = bindings::pgsize_place {
            iova: range.start().get(),
            first: u32::try_from(first)?,
            last: u32::try_from(last)?,
            marks: [pending.into(), 0, 0, 0],
            ..Default::default()
        };
        // SAFETY: The memory for it was made ready when the module was loaded.
        let memory = unsafe { bindings::pgsize_places_alloc() }.cast::<Watch>();
        let memory = NonNull::new(memory).ok_or(ENOMEM)?;
        let watch = Watch {
            place: UnsafeCell::new(place),
            owner,
        };

        // SAFETY: It is memory for one `Watch`.
        unsafe { memory.write(watch) };
        // INVARIANT: Just made. It is in the tree now.
        let new = Self(memory);
        Guard::lock().insert(&new);
        Ok(new)
    }

    /// It is its domain's now.
    pub(crate) fn into_place(self) -> *mut bindings::pgsize_place {
        let place = self.0.cast().as_ptr();

        core::mem::forget(self);
        place
    }

    /// It is ours again.
    ///
    /// # Safety
    ///
    /// It came from [`NewWatch::into_place`], and nobody has it or refers to it.
    pub(crate) unsafe fn from_place(place: NonNull<bindings::pgsize_place>) -> Self {
        // INVARIANT: By the requirement.
        Self(place.cast())
    }
}

impl Deref for NewWatch {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for NewWatch {
    fn drop(&mut self) {
        Guard::lock().remove(self);
        // SAFETY: By the type invariant nobody else has it; it is in no tree any more.
        unsafe {
            self.0.drop_in_place();
            bindings::pgsize_places_free(self.0.as_ptr().cast());
        }
    }
}

/// Memory for stretches; there as long as the module is loaded.
pub(crate) struct Memory(());

impl Memory {
    pub(crate) fn new() -> Result<Self> {
        const SIZE: u32 = size_of::<Watch>() as u32;
        // SAFETY: It is called once, when the module is loaded.
        kernel::error::to_result(unsafe { bindings::pgsize_places_init(SIZE) })?;
        Ok(Self(()))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: The module goes: there are no stretches any more.
        unsafe { bindings::pgsize_places_exit() };
    }
}

/// What the lock protects besides the tree.
struct Shared {
    /// How many calls are between entry and exit, by bucket.
    transit: [u16; BUCKETS],
    /// Counts the beginnings and ends of calls that can break a block.
    generation: u64,
    /// Calls of this generation, or of one before it, do not count.
    forgotten: u64,
}

struct Place(UnsafeCell<Shared>);

// SAFETY: It is touched under the lock only.
unsafe impl Sync for Place {}

static SHARED: Place = Place(UnsafeCell::new(Shared {
    transit: [0; BUCKETS],
    generation: 0,
    forgotten: 0,
}));

/// The lock of the tree, held; interrupts are off.
///
/// # Invariants
///
/// This processor holds the lock, and `flags` is what taking it returned.
pub(crate) struct Guard {
    flags: c_ulong,
    _not_send: kernel::types::NotThreadSafe,
}

impl Guard {
    pub(crate) fn lock() -> Self {
        // INVARIANT: Just taken.
        Self {
            // SAFETY: Nobody who calls this holds it.
            flags: unsafe { bindings::pgsize_rmap_lock() },
            _not_send: kernel::types::NotThreadSafe,
        }
    }

    fn shared(&mut self) -> &mut Shared {
        // SAFETY: By the type invariant no other reference is used.
        unsafe { &mut *SHARED.0.get() }
    }

    fn insert(&mut self, watch: &Watch) {
        // SAFETY: It is in no tree, and stays where it is until it is removed.
        unsafe { bindings::pgsize_rmap_insert(watch.place.get()) };
    }

    fn remove(&mut self, watch: &Watch) {
        // SAFETY: It is in the tree, by the invariants of `Watch`.
        unsafe { bindings::pgsize_rmap_remove(watch.place.get()) };
    }

    /// What is noted of a stretch.
    pub(crate) fn marks<'g>(&'g mut self, watch: &'g Watch) -> &'g mut Marks {
        // SAFETY: By the invariants of `Watch` these are `Marks`. The lock is held, and the borrow of the
        // guard keeps others out.
        unsafe { &mut *(&raw mut (*watch.place.get()).marks).cast() }
    }

    /// Calls `each` with every stretch that holds all of `block`.
    pub(crate) fn each_over(
        &mut self,
        block: Block,
        mut each: impl FnMut(&mut Self, &Watch, IovaRange),
    ) {
        let Ok(number) = u32::try_from(block.number()) else {
            return;
        };
        // SAFETY: The lock is held.
        let mut place = unsafe { bindings::pgsize_rmap_first(number, number) };

        while !place.is_null() {
            // SAFETY: All places are the first field of a `Watch`, which is there until it is removed,
            // under the lock.
            let watch = unsafe { &*place.cast::<Watch>() };
            if let Some(range) = watch.iovas_of(block) {
                each(self, watch, range);
            }
            // SAFETY: As above: `each` removes nothing.
            place = unsafe { bindings::pgsize_rmap_next(place, number, number) };
        }
    }

    /// A call that may break `block` begins.
    /// Returns the generation, which is the call's.
    pub(crate) fn begin(&mut self, block: Block) -> u64 {
        let shared = self.shared();

        shared.generation = shared.generation.wrapping_add(1);
        if let Some(count) = shared.transit.get_mut(bucket_of(block)) {
            *count = count.saturating_add(1);
        }
        shared.generation
    }

    /// The call of generation `began` has returned. Who looked at the RMP meanwhile may not have seen
    /// what it did.
    pub(crate) fn end(&mut self, block: Block, began: u64) {
        let shared = self.shared();

        shared.generation = shared.generation.wrapping_add(1);
        if began <= shared.forgotten {
            return;
        }
        if let Some(count) = shared.transit.get_mut(bucket_of(block)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether such a call is under way: of this block, or of one that shares its bucket.
    pub(crate) fn is_in_transit(&mut self, block: Block) -> bool {
        self.shared().transit.get(bucket_of(block)) != Some(&0)
    }

    /// Changes whenever a call begins or ends that may break a block. If it does not while the RMP is
    /// looked at, and no call is under way then, what was seen holds.
    pub(crate) fn generation(&mut self) -> u64 {
        self.shared().generation
    }

    /// No call is known to be under way: nothing was hooked until now. Calls that were hooked before
    /// that may yet end, and do not count.
    pub(crate) fn reset(&mut self) {
        let shared = self.shared();

        shared.transit = [0; BUCKETS];
        shared.forgotten = shared.generation;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::pgsize_rmap_unlock(self.flags) };
    }
}
