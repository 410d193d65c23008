// SPDX-License-Identifier: GPL-2.0

//! The followed contiguous runs of a domain, by IOVA, each of which the hook knows as long as it exists.

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

/// A contiguous run that the hook knows, and no domain does: it is followed until this is dropped.
///
/// # Invariants
///
/// A `Watch` from [`Watch::alloc`] that is in the rmap, and that nobody else has.
pub(crate) struct NewWatch(NonNull<Watch>);

impl NewWatch {
    /// Follows `range`, which is mapped, or about to be, to the frames from `phys` on: blocks of 2M, in
    /// both. It is pending: the hook does nothing to it, so that it has nothing to lose when dropped.
    ///
    /// # Safety
    ///
    /// The owner's domain stays valid until the result is dropped.
    pub(crate) unsafe fn new(range: IovaRange, phys: Phys, owner: Arc<Owner>) -> Result<Self> {
        // INVARIANT: Just made. It is in the tree now.
        // SAFETY: By the requirement.
        let new = Self(unsafe { Watch::alloc(range, phys, owner) }?);

        Guard::lock().insert(&new);
        Ok(new)
    }

    /// It is its domain's now.
    fn into_place(self) -> *mut bindings::pgsize_place {
        let place = self.0.cast().as_ptr();

        core::mem::forget(self);
        place
    }

    /// It is ours again.
    ///
    /// # Safety
    ///
    /// It came from [`NewWatch::into_place`], and nobody has it or refers to it.
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
        // SAFETY: By the type invariant nobody else has it; it is in no tree any more.
        unsafe { Watch::free(self.0) };
    }
}

/// The followed contiguous runs of a domain, by IOVA.
///
/// # Invariants
///
/// The tree's nodes came from [`NewWatch::into_place`], and are the tree's. No two overlap.
pub(crate) struct Watches {
    tree: bindings::rb_root,
    /// One for each [`Merging`].
    owners: [Option<Arc<Owner>>; 3],
}

// SAFETY: The tree's nodes are its own, and may be used and freed by any thread; so may owners.
unsafe impl Send for Watches {}

impl Watches {
    pub(crate) fn new() -> Self {
        // INVARIANT: It is empty.
        Self {
            tree: bindings::rb_root::default(),
            owners: [const { None }; 3],
        }
    }

    /// The owner of contiguous runs of `domain`, in which these are.
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
            // SAFETY: By the type invariant it is there; its IOVA does not change.
            unsafe { (*place.as_ptr()).iova <= range.last().get() }
        })
    }

    /// The first that overlaps `range`.
    pub(crate) fn first_in(&self, range: IovaRange) -> Option<&Watch> {
        let place = self.place_in(range)?;

        // SAFETY: By the type invariant it is in the tree, as long as that is not changed.
        Some(unsafe { Watch::of(place.as_ptr()) })
    }

    /// All that overlap `range`, in rising order.
    pub(crate) fn overlapping(&self, range: IovaRange) -> impl Iterator<Item = &Watch> {
        let mut left = Some(range);

        core::iter::from_fn(move || {
            let todo = left?;
            let found = self.first_in(todo)?;
            left = todo.behind(found.range().last());
            Some(found)
        })
    }

    /// What overlaps `range` is not followed any more, as a whole.
    pub(crate) fn remove_in(&mut self, range: IovaRange) {
        while let Some(place) = self.place_in(range) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: NonNull<bindings::pgsize_place>) {
        // SAFETY: It is in the tree; then it is nobody's.
        unsafe {
            bindings::pgsize_places_remove(&mut self.tree, place.as_ptr());
            drop(NewWatch::from_place(place));
        }
    }

    /// The hook leaves what overlaps `range` alone. Says whether it had to unmap anything there.
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

    /// Others are to take the place of what overlaps `range`, or, if not `replaced`, are not after all.
    pub(crate) fn set_being_replaced(&self, range: IovaRange, replaced: bool) {
        for watch in self.overlapping(range) {
            Guard::lock().marks(watch).state = if replaced {
                WatchState::BeingReplaced
            } else {
                WatchState::Live
            };
        }
    }

    /// Whether the hook had to unmap anything of what overlaps `range`.
    pub(crate) fn lost_in(&self, range: IovaRange) -> bool {
        self.overlapping(range)
            .any(|watch| Guard::lock().marks(watch).lost)
    }

    /// Adds one, which overlaps no other.
    pub(crate) fn insert(&mut self, new: NewWatch) {
        // SAFETY: It is in no domain's tree, and now the tree's.
        unsafe { bindings::pgsize_places_insert(&mut self.tree, new.into_place()) };
    }

    /// What is followed in `range` is followed by `new`, in rising order, and by nothing else. Each of
    /// those that were there lies in `new` as a whole, or not at all; of the latter those that the hook
    /// has lost leaves of stay, for nobody else knows of these.
    ///
    /// The hook knows the old ones, or the new ones, or both, all the time. Can not fail.
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
            // SAFETY: It is in the tree.
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

    /// `new` takes over what was noted of those that it replaces.
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

/// Has the hook watch `contig`, as pending, if there are blocks in it that leaves of 2M can have.
///
/// `owner` is the domain's in which the result is dropped or put.
pub(crate) fn watch(contig: ContigRun, owner: &Arc<Owner>) -> Result<Option<NewWatch>> {
    let Some(blocks) = contig.blocks() else {
        return Ok(None);
    };
    let at = contig.phys_at(blocks.start());
    // SAFETY: The domain drops its watches before it is freed.
    let new = unsafe { NewWatch::new(blocks, at, owner.clone()) }?;

    Ok(Some(new))
}

/// The same, of what is not followed yet.
///
/// Fails with `EMLINK` if a frame has too many mappings that are followed in its container.
pub(super) fn watch_counted(contig: ContigRun, owner: &Arc<Owner>) -> Result<Option<NewWatch>> {
    let new = watch(contig, owner)?;

    match &new {
        Some(watch) if is_crowded(watch) => Err(EMLINK),
        _ => Ok(new),
    }
}

/// How many mappings of a frame are followed in a container, of all its domains, at most: whoever
/// changes the frame's RMP entry waits for all of them.
const MOST: u32 = 1024;

/// Whether a frame of `watch` has more than that.
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

    // So many in all, mostly, and there is no need to count block by block.
    more((first, last)) && (first..=last).any(|number| more((number, number)))
}

/// Which leaves over a block agree with the RMP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is whole.
    Any,
    /// A call is under way, on this block or on another one: it may be about to break. The worker is to
    /// look at it later.
    SmallForNow,
    /// It is broken.
    Small,
}

impl Fit {
    pub(crate) fn of(block: Block) -> Self {
        if Guard::lock().is_in_transit(block) {
            return Self::SmallForNow;
        }
        Self::of_still(block)
    }

    /// The same, with the lock held.
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
