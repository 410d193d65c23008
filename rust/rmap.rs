// SPDX-License-Identifier: GPL-2.0

//! From frames to leaves: which stretches of which domains follow the RMP.
//!
//! One interval tree over the frames of all followed stretches, of all containers. A stretch, not a
//! leaf, has a node: what leaves it has is read from its page table. So a contiguous terabyte is one
//! node, and splits and merges change nothing here.
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
    num::{
        to_u64,
        to_usize, //
    },
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        Phys,
        PAGE_BYTES, //
    }, //
};

/// Frames of 4K in a block of 2M.
const BLOCK: u64 = 512;

/// Blocks that are in transition are counted by a hash of them.
const BUCKETS: usize = 256;

/// A block of 2M of physical memory, aligned: what one large RMP entry covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block(u64);

impl Block {
    /// The block that holds the frame.
    pub(crate) const fn of_pfn(pfn: u64) -> Self {
        Self(pfn / BLOCK)
    }

    /// The block that holds the address.
    pub(crate) const fn of(phys: Phys) -> Self {
        Self::of_pfn(phys.get() / PAGE_BYTES)
    }

    /// Its frames.
    fn pfns(self) -> core::ops::RangeInclusive<u64> {
        let first = self.0.wrapping_mul(BLOCK);

        first..=first.wrapping_add(BLOCK - 1)
    }

    fn bucket(self) -> usize {
        to_usize(self.0) % BUCKETS
    }

    /// Whether a leaf over it would disagree with the RMP: it is of 4K entries, and one is assigned.
    /// `None`: there is no RMP entry for it.
    pub(crate) fn is_broken(self) -> bool {
        for pfn in self.pfns() {
            let (mut assigned, mut large) = (false, false);
            // SAFETY: The hook is registered as long as anything is followed. Both are valid.
            if unsafe { bindings::pgsize_rmp_lookup(pfn, &mut assigned, &mut large) } != 0 {
                return false;
            }
            if large {
                return false;
            }
            if assigned {
                return true;
            }
        }
        false
    }
}

/// A followed stretch: frames of one domain, from an IOVA on, that are contiguous.
///
/// # Invariants
///
/// - The first field is the node, which is in the tree from [`Watch::new`] to drop, and does not
///   move.
/// - `domain` is valid as long as this exists.
/// - The mutable fields are read and written under the lock of the tree.
#[repr(C)]
pub(crate) struct Watch {
    node: UnsafeCell<bindings::interval_tree_node>,
    domain: NonNull<bindings::iommu_domain>,
    start: Iova,
    follower: Arc<Follower>,
    merge: bool,
    marks: UnsafeCell<Marks>,
}

/// What the hook and the worker tell each other of a stretch.
#[derive(Clone, Copy, Default)]
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

// SAFETY: The mutable parts are touched under the lock of the tree; the rest may be read by anybody.
unsafe impl Send for Watch {}
// SAFETY: As above.
unsafe impl Sync for Watch {}

impl Watch {
    /// Follows `range`, which is mapped, or about to be if `pending`, to the frames from `phys` on.
    ///
    /// # Safety
    ///
    /// `domain` stays valid until the result is dropped.
    pub(crate) unsafe fn new(
        domain: NonNull<bindings::iommu_domain>,
        range: IovaRange,
        phys: Phys,
        merge: bool,
        pending: bool,
        follower: Arc<Follower>,
    ) -> Result<KBox<Self>> {
        let first = phys.get() / PAGE_BYTES;
        let last = first.wrapping_add(range.pages().wrapping_sub(1));
        let watch = KBox::new(
            Self {
                node: UnsafeCell::new(bindings::interval_tree_node {
                    start: to_usize(first),
                    last: to_usize(last),
                    ..Default::default()
                }),
                domain,
                start: range.start(),
                follower,
                merge,
                marks: UnsafeCell::new(Marks {
                    pending,
                    ..Marks::default()
                }),
            },
            GFP_KERNEL_ACCOUNT,
        )?;

        // INVARIANT: It is in the tree now, at its place on the heap.
        Guard::lock().insert(&watch);
        Ok(watch)
    }

    pub(crate) fn domain(&self) -> NonNull<bindings::iommu_domain> {
        self.domain
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.follower.stats
    }

    /// What its container and the hook have in common.
    pub(crate) fn follower(&self) -> &Follower {
        &self.follower
    }

    pub(crate) fn merges(&self) -> bool {
        self.merge
    }

    fn pfns(&self) -> (u64, u64) {
        // SAFETY: By the type invariants; `start` and `last` are never written.
        let node = unsafe { &*self.node.get() };

        (to_u64(node.start), to_u64(node.last))
    }

    /// The IOVAs.
    pub(crate) fn range(&self) -> IovaRange {
        let (first, last) = self.pfns();
        let bytes = last
            .wrapping_sub(first)
            .wrapping_add(1)
            .wrapping_mul(PAGE_BYTES);

        IovaRange::with_len(self.start, bytes)
            .unwrap_or(IovaRange::block(self.start, PageSize::SIZE_4K))
    }

    /// Where an IOVA of the stretch is.
    pub(crate) fn phys_at(&self, iova: Iova) -> Option<Phys> {
        let offset = iova.above(self.start);

        Phys::new(self.pfns().0.wrapping_mul(PAGE_BYTES).wrapping_add(offset))
    }

    /// The IOVAs of a block; `None` if not all of it is in the stretch.
    pub(crate) fn iovas_of(&self, block: Block) -> Option<IovaRange> {
        let (first, last) = self.pfns();
        let pages = block.pfns().start().checked_sub(first)?;

        if *block.pfns().end() > last {
            return None;
        }
        let start = self.start.checked_add(pages.wrapping_mul(PAGE_BYTES))?;
        let range = IovaRange::block(start, PageSize::SIZE_2M);
        // Else no leaf of 2M fits.
        (range.start() == start).then_some(range)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        Guard::lock().remove(self);
    }
}

/// What the lock protects besides the tree.
struct Shared {
    root: bindings::rb_root_cached,
    /// How many calls are between entry and exit, by bucket.
    transit: [u16; BUCKETS],
    /// Counts everything that can break a block.
    generation: u64,
}

struct Place(UnsafeCell<Shared>);

// SAFETY: It is touched under the lock only.
unsafe impl Sync for Place {}

static SHARED: Place = Place(UnsafeCell::new(Shared {
    root: bindings::rb_root_cached {
        rb_root: bindings::rb_root {
            rb_node: core::ptr::null_mut(),
        },
        rb_leftmost: core::ptr::null_mut(),
    },
    transit: [0; BUCKETS],
    generation: 0,
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
        let root = &raw mut self.shared().root;
        // SAFETY: The node is in no tree, and stays where it is until it is removed.
        unsafe { bindings::interval_tree_insert(watch.node.get(), root) };
    }

    fn remove(&mut self, watch: &Watch) {
        let root = &raw mut self.shared().root;
        // SAFETY: The node is in the tree, by the invariants of `Watch`.
        unsafe { bindings::interval_tree_remove(watch.node.get(), root) };
    }

    /// What is noted of a stretch.
    pub(crate) fn marks<'g>(&'g mut self, watch: &'g Watch) -> &'g mut Marks {
        // SAFETY: The lock is held, and the borrow of the guard keeps others out.
        unsafe { &mut *watch.marks.get() }
    }

    /// Calls `each` with every stretch that holds all of `block`.
    pub(crate) fn each_over(
        &mut self,
        block: Block,
        mut each: impl FnMut(&mut Self, &Watch, IovaRange),
    ) {
        let (first, last) = (
            to_usize(*block.pfns().start()),
            to_usize(*block.pfns().end()),
        );
        let root = &raw mut self.shared().root;
        // SAFETY: The tree is valid, and the lock is held.
        let mut node = unsafe { bindings::interval_tree_iter_first(root, first, last) };

        while !node.is_null() {
            // SAFETY: All nodes are the first field of a `Watch`, which is there until it is removed,
            // under the lock.
            let watch = unsafe { &*node.cast::<Watch>() };
            if let Some(range) = watch.iovas_of(block) {
                each(self, watch, range);
            }
            // SAFETY: As above: `each` removes nothing.
            node = unsafe { bindings::interval_tree_iter_next(node, first, last) };
        }
    }

    /// A call that may break `block` begins.
    pub(crate) fn begin(&mut self, block: Block) {
        let shared = self.shared();

        shared.generation = shared.generation.wrapping_add(1);
        if let Some(count) = shared.transit.get_mut(block.bucket()) {
            *count = count.saturating_add(1);
        }
    }

    /// It has returned.
    pub(crate) fn end(&mut self, block: Block) {
        if let Some(count) = self.shared().transit.get_mut(block.bucket()) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether such a call is under way: of this block, or of one that shares its bucket.
    pub(crate) fn is_in_transit(&mut self, block: Block) -> bool {
        self.shared().transit.get(block.bucket()) != Some(&0)
    }

    /// Changes whenever a block may break.
    pub(crate) fn generation(&mut self) -> u64 {
        self.shared().generation
    }

    /// No call is under way: nothing was hooked until now.
    pub(crate) fn reset(&mut self) {
        self.shared().transit = [0; BUCKETS];
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::pgsize_rmap_unlock(self.flags) };
    }
}
