// SPDX-License-Identifier: GPL-2.0

//! What is mapped where: the mappings of a container, by IOVA.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::Arc, //
};

use crate::{
    account::Locked,
    domain::Access,
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        PAGE_BYTES, //
    },
    pin::UserAddr, //
};

/// What one map request made, or what is left of it.
pub(crate) struct Mapping {
    pub(crate) range: IovaRange,
    /// Where the process has the memory of `range.start()`.
    pub(crate) memory: UserAddr,
    pub(crate) access: Access,
    /// Its pages have a state: those that are shared are mapped, and the others are not.
    pub(crate) stateful: bool,
    /// Some of its frames are no memory, and are not pinned.
    pub(crate) mixed: bool,
    /// Who pays for it.
    pub(crate) locked: Arc<Locked>,
}

impl Mapping {
    /// Where the process has the memory of an IOVA of the mapping.
    pub(crate) fn memory_at(&self, iova: Iova) -> UserAddr {
        self.memory
            .after(iova.above(self.range.start()) / PAGE_BYTES)
    }

    /// A part of it.
    pub(crate) fn part(&self, range: IovaRange) -> Self {
        Self {
            range,
            memory: self.memory_at(range.start()),
            locked: self.locked.clone(),
            ..*self
        }
    }
}

/// Room for one more mapping.
pub(crate) struct Room(RBTreeNodeReservation<Iova, Mapping>);

impl Room {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?))
    }
}

/// The mappings of a container.
///
/// # Invariants
///
/// No two overlap, and the key of each is its last address: the first key from an address on is that
/// of the only mapping that can hold it.
pub(crate) struct Mappings(RBTree<Iova, Mapping>);

impl Mappings {
    pub(crate) fn new() -> Self {
        // INVARIANT: There is none.
        Self(RBTree::new())
    }

    /// The first mapping that overlaps `range`.
    pub(crate) fn first_in(&self, range: IovaRange) -> Option<&Mapping> {
        // Copied out and looked up again: a cursor's borrow ends with the cursor.
        let key = *self.0.cursor_lower_bound(&range.start())?.current().0;

        self.0
            .get(&key)
            .filter(|mapping| mapping.range.start() <= range.last())
    }

    /// All that overlap `range`, in rising order.
    pub(crate) fn overlapping(&self, range: IovaRange) -> impl Iterator<Item = &Mapping> {
        let mut left = Some(range);

        core::iter::from_fn(move || {
            let todo = left?;
            let found = self.first_in(todo)?;
            left = todo.behind(found.range.last());
            Some(found)
        })
    }

    /// The mapping that holds `iova`.
    pub(crate) fn at(&self, iova: Iova) -> Option<&Mapping> {
        self.first_in(IovaRange::block(iova, PageSize::SIZE_4K))
    }

    /// Whether a mapping lies in part in `range` and in part outside.
    pub(crate) fn crosses_end_of(&self, range: IovaRange) -> bool {
        let crosses = |iova| {
            self.at(iova)
                .is_some_and(|mapping| !range.covers(mapping.range))
        };

        crosses(range.start()) || crosses(range.last())
    }

    /// Adds `mapping`, which overlaps no other.
    pub(crate) fn insert(&mut self, room: Room, mapping: Mapping) {
        // INVARIANT: The key is the last address.
        self.0
            .insert(room.0.into_node(mapping.range.last(), mapping));
    }

    /// Makes two of the mapping that holds `at` and begins before it. Says whether there is one.
    pub(crate) fn cut(&mut self, at: Iova, room: Room) -> bool {
        let halves = |whole: &Mapping| {
            let left = IovaRange::new(whole.range.start(), at.before()?)?;
            Some((whole.part(left), whole.part(whole.range.from(at)?)))
        };
        let Some((left, right)) = self.at(at).and_then(halves) else {
            return false;
        };

        if let Some(node) = self.0.remove_node(&right.range.last()) {
            // INVARIANT: The key is the last address, and they do not overlap.
            self.0
                .insert(node.into_reservation().into_node(left.range.last(), left));
            self.insert(room, right);
        }
        true
    }

    /// Takes the first mapping that overlaps `range` out.
    pub(crate) fn remove_first_in(&mut self, range: IovaRange) -> Option<Mapping> {
        let last = self.first_in(range)?.range.last();

        self.0.remove(&last)
    }
}
