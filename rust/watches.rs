// SPDX-License-Identifier: GPL-2.0

//! The followed stretches of a domain, by IOVA.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

use crate::{
    pgtable::{
        Iova,
        IovaRange, //
    },
    rmap::{
        Guard,
        Watch, //
    }, //
};

/// The followed stretches of a domain, by their last address.
///
/// # Invariants
///
/// No two overlap.
pub(crate) struct Watches(RBTree<Iova, KBox<Watch>>);

impl Watches {
    pub(crate) fn new() -> Self {
        Self(RBTree::new())
    }

    /// The first that overlaps `range`.
    pub(crate) fn first_in(&self, range: IovaRange) -> Option<&Watch> {
        let cursor = self.0.cursor_lower_bound(&range.start())?;
        let key = *cursor.current().0;
        let watch = self.0.get(&key)?;

        (watch.range().start() <= range.last()).then_some(&**watch)
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
        while let Some(last) = self.first_in(range).map(|watch| watch.range().last()) {
            drop(self.0.remove(&last));
        }
    }

    /// The hook leaves what overlaps `range` alone. Says whether it had to unmap anything there.
    pub(crate) fn hold_in(&self, range: IovaRange) -> bool {
        let mut lost = false;

        for watch in self.overlapping(range) {
            let mut guard = Guard::lock();
            let marks = guard.marks(watch);
            marks.pending = true;
            lost |= marks.lost;
        }
        lost
    }

    /// Adds one, which overlaps no other.
    pub(crate) fn insert(&mut self, new: NewWatch) {
        let last = new.watch.range().last();

        drop(self.0.insert(new.room.into_node(last, new.watch)));
    }
}

/// A stretch that the hook knows already, and its domain does not yet.
pub(crate) struct NewWatch {
    room: RBTreeNodeReservation<Iova, KBox<Watch>>,
    watch: KBox<Watch>,
}

impl NewWatch {
    pub(crate) fn new(watch: KBox<Watch>, room: Room) -> Self {
        Self {
            room: room.0,
            watch,
        }
    }

    pub(crate) fn range(&self) -> IovaRange {
        self.watch.range()
    }

    /// Takes over what was noted of those that it replaces.
    pub(crate) fn inherit(&self, old: &Watches) {
        for before in old.overlapping(self.range()) {
            let mut guard = Guard::lock();
            let noted = *guard.marks(before);
            let marks = guard.marks(&self.watch);

            marks.lost |= noted.lost;
            marks.shared |= noted.shared;
        }
    }
}

/// Room for one more.
pub(crate) struct Room(RBTreeNodeReservation<Iova, KBox<Watch>>);

impl Room {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?))
    }
}
