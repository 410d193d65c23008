// SPDX-License-Identifier: GPL-2.0

//! The watches of a domain, by IOVA. Each of them is in the rmap, too.

#![allow(unsafe_code)]

use core::{
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    cursor::Visit,
    entry::Block,
    follower::Follower,
    lock::Guard,
    smash::take_over,
    watch::{
        Owner,
        Watch,
        WatchState, //
    }, //
};
use crate::{
    pgtable::{
        ContigRun,
        IovaRange,
        Phys, //
    },
    policy::Merging,
    sys::{
        bindings,
        sched::cond_resched, //
    }, //
};

/// A watch that is in the rmap, but in no domain. Dropping it removes it.
///
/// # Invariants
///
/// From [`Watch::alloc`], in the rmap, and ours.
pub(crate) struct NewWatch(NonNull<Watch>);

impl NewWatch {
    /// Allocates a watch for `range`, mapped or about to be mapped to the frames from `phys` on,
    /// and adds it to the rmap. Both are 2M-aligned. It is pending, so the hook does not edit its
    /// leaves. Fails with `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The domain of the owner lives longer than the result.
    pub(crate) unsafe fn new(range: IovaRange, phys: Phys, owner: Arc<Owner>) -> Result<Self> {
        // INVARIANT: New, and in the rmap at the end.
        // SAFETY: By the requirement.
        let new = Self(unsafe { Watch::alloc(range, phys, owner) }?);

        Guard::lock().insert(&new);
        Ok(new)
    }

    /// Passes it to a domain.
    fn into_place(self) -> *mut bindings::pgsize_place {
        let place = self.0.cast().as_ptr();

        core::mem::forget(self);
        place
    }

    /// Takes it from a domain.
    ///
    /// # Safety
    ///
    /// It comes from [`NewWatch::into_place`], and has no other user.
    unsafe fn from_place(place: NonNull<bindings::pgsize_place>) -> Self {
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
        // SAFETY: By the type invariant it is ours; it is in no tree.
        unsafe { Watch::free(self.0) };
    }
}

/// The watches of a domain, by IOVA.
///
/// # Invariants
///
/// The nodes of the tree come from [`NewWatch::into_place`], and are ours. No two overlap.
pub(crate) struct Watches {
    tree: bindings::rb_root,
    /// One for each [`Merging`].
    owners: [Option<Arc<Owner>>; 3],
}

// SAFETY: The nodes are ours, and may be used and freed by any thread, as may owners.
unsafe impl Send for Watches {}

impl Watches {
    /// No watches.
    pub(crate) fn new() -> Self {
        // INVARIANT: Empty.
        Self {
            tree: bindings::rb_root::default(),
            owners: [const { None }; 3],
        }
    }

    /// The owner for watches of `domain`, the domain of this tree. Fails with `ENOMEM`.
    pub(crate) fn owner(
        &mut self,
        domain: NonNull<bindings::iommu_domain>,
        merging: Merging,
        follower: &Arc<Follower>,
    ) -> Result<Arc<Owner>> {
        let [never, undone, whole] = &mut self.owners;
        let known = match merging {
            Merging::Never => never,
            Merging::WhenUndone => undone,
            Merging::WhenWhole => whole,
        };

        if let Some(owner) = known {
            return Ok(owner.clone());
        }
        let owner = Owner::new(domain, merging, follower)?;
        *known = Some(owner.clone());
        Ok(owner)
    }

    fn place_in(&self, range: IovaRange) -> Option<NonNull<bindings::pgsize_place>> {
        // SAFETY: The tree is valid.
        let place = unsafe { bindings::pgsize_places_from(&self.tree, range.start().get()) };

        NonNull::new(place).filter(|place| {
            // SAFETY: By the type invariant the node is valid; its IOVA does not change.
            unsafe { (*place.as_ptr()).iova <= range.last().get() }
        })
    }

    /// The first watch that overlaps `range`.
    pub(crate) fn first_in(&self, range: IovaRange) -> Option<&Watch> {
        let place = self.place_in(range)?;

        // SAFETY: By the type invariant. The tree does not change during the borrow.
        Some(unsafe { Watch::of(place.as_ptr()) })
    }

    /// The watches that overlap `range`, in ascending order.
    pub(crate) fn overlapping(&self, range: IovaRange) -> impl Iterator<Item = &Watch> {
        let mut left = Some(range);

        core::iter::from_fn(move || {
            let todo = left?;
            let found = self.first_in(todo)?;
            left = todo.behind(found.range().last());
            Some(found)
        })
    }

    /// Removes all watches that overlap `range`.
    pub(crate) fn remove_in(&mut self, range: IovaRange) {
        while let Some(place) = self.place_in(range) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: NonNull<bindings::pgsize_place>) {
        // SAFETY: The node is in the tree, and ours after its removal.
        unsafe {
            bindings::pgsize_places_remove(&mut self.tree, place.as_ptr());
            drop(NewWatch::from_place(place));
        }
    }

    /// Sets the watches that overlap `range` to pending. Returns whether a leaf of them is lost.
    pub(crate) fn set_pending_in(&self, range: IovaRange) -> bool {
        let mut lost = false;

        for watch in self.overlapping(range) {
            let mut guard = Guard::lock();
            let marks = guard.marks(watch);
            marks.set_pending();
            lost |= marks.lost;
        }
        lost
    }

    /// The watches that overlap `range` are about to be replaced, or, if not `replaced`, are not
    /// after all.
    pub(crate) fn set_being_replaced(&self, range: IovaRange, replaced: bool) {
        for watch in self.overlapping(range) {
            Guard::lock().marks(watch).state = if replaced {
                WatchState::BeingReplaced
            } else {
                WatchState::Live
            };
        }
    }

    /// Whether a leaf of a watch that overlaps `range` is lost.
    pub(crate) fn lost_in(&self, range: IovaRange) -> bool {
        self.overlapping(range)
            .any(|watch| Guard::lock().marks(watch).lost)
    }

    /// Adds a watch, which overlaps no other one.
    pub(crate) fn insert(&mut self, new: NewWatch) {
        // SAFETY: The node is in no tree of a domain, and ours.
        unsafe { bindings::pgsize_places_insert(&mut self.tree, new.into_place()) };
    }

    /// Replaces the watches in `range` by `new`, which is in ascending order. Each old watch lies
    /// in a new one, or overlaps none. An old one that overlaps none stays if a leaf of it is lost:
    /// nothing else knows where to repair it.
    ///
    /// The hook sees the old watch or the new one at any time. Cannot fail.
    pub(crate) fn replace(&mut self, range: IovaRange, new: KVVec<NewWatch>) {
        for new in &new {
            take_over(&mut Guard::lock(), new);
        }
        self.set_pending_in(range);
        for new in &new {
            self.inherit_marks(new);
        }
        let mut left = Some(range);
        while let Some(place) = left.and_then(|left| self.place_in(left)) {
            // SAFETY: The node is in the tree.
            let watch = unsafe { Watch::of(place.as_ptr()) };
            let whole = watch.range();
            let next = new.partition_point(|new| new.range().last() < whole.start());
            let replaced = new
                .get(next)
                .is_some_and(|new| new.range().start() <= whole.last());

            left = left.and_then(|left| left.behind(whole.last()));
            if replaced || !Guard::lock().marks(watch).lost {
                self.remove(place);
            } else {
                Guard::lock().go_live(watch);
            }
        }
        for new in new {
            self.insert(new);
        }
    }

    /// Copies the marks of the watches that `new` replaces.
    fn inherit_marks(&self, new: &NewWatch) {
        for before in self.overlapping(new.range()) {
            let mut guard = Guard::lock();
            let noted = *guard.marks(before);
            let marks = guard.marks(new);

            marks.lost |= noted.lost;
            marks.recheck |= noted.recheck;
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.remove_in(IovaRange::ALL);
    }
}

/// Adds a watch for the blocks of `contig` that 2M leaves can map, as pending. `None` if there are
/// none.
///
/// `owner` is of the domain that gets the result. Fails with `ENOMEM`.
pub(crate) fn watch(contig: ContigRun, owner: &Arc<Owner>) -> Result<Option<NewWatch>> {
    let Some(blocks) = contig.blocks() else {
        return Ok(None);
    };
    let at = contig.phys_at(blocks.start());
    // SAFETY: A domain drops its watches before it is freed.
    let new = unsafe { NewWatch::new(blocks, at, owner.clone()) }?;

    Ok(Some(new))
}

/// As [`watch`], for a run that is not followed yet.
///
/// Fails with `EMLINK` if a frame has more than 1024 watches in the container.
pub(super) fn watch_counted(contig: ContigRun, owner: &Arc<Owner>) -> Result<Option<NewWatch>> {
    let new = watch(contig, owner)?;

    match &new {
        Some(watch) if is_crowded(watch) => Err(EMLINK),
        _ => Ok(new),
    }
}

/// Maximum number of watches of a frame in a container, in all its domains. A change of the RMP
/// entry of the frame visits all of them.
const MOST: u32 = 1024;

/// Whether a frame of `watch` has more than [`MOST`].
fn is_crowded(watch: &Watch) -> bool {
    let more = |blocks: (u32, u32)| {
        let mut count = 0u32;
        Guard::lock().each_in(blocks, false, |guard, other| {
            let counts = core::ptr::eq(other.follower(), watch.follower())
                && guard.marks(other).state != WatchState::BeingReplaced;
            count = count.saturating_add(counts.into());
            if count > MOST {
                Visit::Stop
            } else {
                Visit::Next
            }
        });
        cond_resched();
        count > MOST
    };
    let (first, last) = watch.numbers();

    // Usually the whole range has few watches. Otherwise count block by block.
    more((first, last)) && (first..=last).any(|number| more((number, number)))
}

/// Which leaves over a block agree with the RMP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Any size.
    Any,
    /// 4K: a call is in transit, on this block or on another one of its bucket. The worker has to
    /// look again.
    SmallForNow,
    /// 4K: the block is broken.
    Small,
}

impl Fit {
    /// For `block`. Atomic; takes the rmap's lock.
    pub(crate) fn of(block: Block) -> Self {
        if Guard::lock().is_in_transit(block) {
            return Self::SmallForNow;
        }
        Self::of_still(block)
    }

    /// As [`Self::of`], with the lock held.
    pub(super) fn under(guard: &mut Guard, block: Block) -> Self {
        if guard.is_in_transit(block) {
            return Self::SmallForNow;
        }
        Self::of_still(block)
    }

    fn of_still(block: Block) -> Self {
        if block.is_broken() {
            Self::Small
        } else {
            Self::Any
        }
    }
}
