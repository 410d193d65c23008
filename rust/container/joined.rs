// SPDX-License-Identifier: GPL-2.0

//! Joined mappings: one entry for all pieces of a process's memory within a gigabyte of IOVAs that are
//! mapped alike.
//!
//! Pieces go into one entry if IOVA and memory are equally far from each other, devices may do the same
//! with them, and the same process pays. What lies between them is not the entry's: others may be
//! mapped there, other joined mappings, too.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

use super::{
    joined_entry::{
        Grain,
        Joined,
        Part,
        BLOCK, //
    },
    pieces::{
        Pages,
        PieceReservation,
        MOST, //
    }, //
};
use crate::{
    pgtable::{
        Iova,
        IovaRange,
        PageSize, //
    },
    sys::sched::cond_resched, //
};

/// Joined mappings of one block, at most. Where more would be wanted IOVA and memory have little to do
/// with each other, and there is nothing to be joined.
const MOST_IN_BLOCK: usize = 8;

/// Whether a piece is joined with others. One that is larger, or lies in two blocks, is a mapping of its
/// own: there cannot be many of them.
pub(crate) fn can_be_joined(range: IovaRange) -> bool {
    range.pages() <= MOST as u64 && IovaRange::block(range.start(), BLOCK).covers(range)
}

/// Room for one more joined mapping, and for a piece.
pub(crate) struct JoinedReservation {
    node: RBTreeNodeReservation<Key, Joined>,
    pieces: PieceReservation,
}

impl JoinedReservation {
    /// Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            node: RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?,
            pieces: PieceReservation::new()?,
        })
    }
}

/// The start of a block, and a number that no other entry has.
pub(super) type Key = (Iova, u64);

/// The joined mappings of a container.
///
/// # Invariants
///
/// None is empty. No page is mapped by two of them. The key of each begins with its block's start.
pub(crate) struct JoinedMappings {
    tree: RBTree<Key, Joined>,
    next: u64,
    count: u32,
    pages: u64,
}

impl JoinedMappings {
    /// No joined mappings.
    pub(crate) fn new() -> Self {
        // INVARIANT: There is none.
        Self {
            tree: RBTree::new(),
            next: 0,
            count: 0,
            pages: 0,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// How many pages are mapped in all of them.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// The entry whose key is `key` or the first behind it.
    pub(super) fn from(&self, key: Key) -> Option<(Key, &Joined)> {
        // Copied out and looked up again: a cursor's borrow ends with the cursor.
        let key = *self.tree.cursor_lower_bound(&key)?.current().0;

        Some((key, self.tree.get(&key)?))
    }

    /// Those whose blocks overlap `range`, in rising order of these.
    pub(super) fn over(&self, range: IovaRange) -> impl Iterator<Item = (Key, &Joined)> {
        let mut next = Some((range.start().align_down(BLOCK), 0));

        core::iter::from_fn(move || {
            let (key, joined) = self.from(next?)?;
            next = key.1.checked_add(1).map(|number| (key.0, number));
            (joined.block.start() <= range.last()).then_some((key, joined))
        })
    }

    /// Whether anything in `range` is mapped.
    pub(crate) fn any_in(&self, range: IovaRange) -> bool {
        self.count != 0
            && self
                .over(range)
                .any(|(_, joined)| joined.next_mapped(range).is_some())
    }

    /// Whether a piece lies in part in `range` and in part outside.
    pub(crate) fn are_cut_by(&self, range: IovaRange) -> bool {
        let behind = range.last().next();

        self.go_on_at(range.start()) || behind.is_some_and(|behind| self.go_on_at(behind))
    }

    /// Whether a piece begins before `iova` and contains it.
    pub(super) fn go_on_at(&self, iova: Iova) -> bool {
        let page = IovaRange::block(iova, PageSize::SIZE_4K);
        let goes_on = |(_, joined): (Key, &Joined)| {
            let pages = joined.pages_of(page);
            pages.is_some_and(|pages| joined.pieces.goes_on_at(pages.first))
        };

        self.count != 0 && self.over(page).any(goes_on)
    }

    /// The last address of the piece that contains `iova`.
    pub(crate) fn last_of_piece(&self, iova: Iova) -> Option<Iova> {
        let page = IovaRange::block(iova, PageSize::SIZE_4K);

        self.over(page).find_map(|(_, joined)| {
            let mapped = joined.next_mapped(page)?;
            joined.last_from(mapped, Grain::Pieces)
        })
    }

    /// The one that `piece` goes into.
    fn of(&self, piece: &Part) -> Option<(Key, &Joined)> {
        self.over(piece.range)
            .find(|(_, joined)| joined.takes(piece))
    }

    /// Whether there is one for `piece`, or may be one, if there are to be `limit` at most.
    pub(crate) fn take(&self, piece: &Part, limit: u32) -> bool {
        self.of(piece).is_some()
            || self.count < limit && self.over(piece.range).count() < MOST_IN_BLOCK
    }

    /// Whether there is one for `piece`, with room for it.
    pub(crate) fn have_room(&self, piece: &Part) -> bool {
        self.of(piece).is_some_and(|(_, joined)| {
            let pages = joined.pages_of(piece.range);
            pages.is_some_and(|pages| joined.pieces.has_room(pages))
        })
    }

    /// Adds `piece`, where nothing is mapped, and which [can be](can_be_joined) joined. Says whether it
    /// could: without room for a new entry there must be one [with room](Self::have_room).
    pub(crate) fn add(
        &mut self,
        piece: &Part,
        room: Option<JoinedReservation>,
        limit: u32,
    ) -> bool {
        if !self.take(piece, limit) {
            return false;
        }
        let (node, mut bits) =
            room.map_or((None, None), |room| (Some(room.node), Some(room.pieces)));
        let found = self.of(piece).map(|(key, _)| key);
        let key = found.unwrap_or((piece.range.start().align_down(BLOCK), self.next));

        if found.is_none() {
            let Some(node) = node else {
                return false;
            };
            // INVARIANT: It is not empty in a moment.
            self.tree.insert(node.into_node(key, Joined::of(piece)));
            self.next = self.next.wrapping_add(1);
            self.count = self.count.saturating_add(1);
        }
        let Some(joined) = self.tree.get_mut(&key) else {
            return false;
        };
        let Some(pages) = joined.pages_of(piece.range) else {
            return false;
        };
        if let Some(bits) = &mut bits {
            joined.pieces.make_room(pages, bits);
        }
        if !joined.pieces.has_room(pages) {
            return false;
        }
        joined.pieces.add(pages);
        self.pages = self.pages.saturating_add(piece.range.pages());
        true
    }

    /// What is mapped in `range`, which is in one block, if a single joined mapping has all of it; and
    /// that one. With `whole`, no piece may be cut.
    pub(super) fn only_in(&self, range: IovaRange, whole: bool) -> Option<(Key, Part)> {
        let mut found = None;

        for (key, joined) in self.over(range) {
            let pages = joined.pages_of(range)?;
            if whole && joined.pieces.are_cut_by(pages) {
                return None;
            }
            let Some(first) = joined.pieces.first_in(pages) else {
                continue;
            };
            if found.is_some() {
                return None;
            }
            let mapped = joined.range_of(Pages { first, ..pages })?;
            found = Some((key, joined.part(mapped)));
        }
        found
    }

    /// Takes out what is mapped of `part`, one of [`Self::next_in`]. An entry of which nothing is left
    /// goes to `gone`. Returns how many pages that was.
    pub(crate) fn remove(&mut self, part: &Part, gone: &mut Self) -> u64 {
        match self.of(part) {
            Some((key, _)) => self.remove_from(key, part.range, gone),
            None => 0,
        }
    }

    /// The same for what is mapped in `range` by the entry with this key.
    pub(super) fn remove_from(&mut self, key: Key, range: IovaRange, gone: &mut Self) -> u64 {
        let Some(joined) = self.tree.get_mut(&key) else {
            return 0;
        };
        let removed = joined
            .pages_of(range)
            .map_or(0, |pages| joined.pieces.remove(pages)) as u64;

        self.pages = self.pages.saturating_sub(removed);
        if joined.pieces.is_empty() {
            if let Some(node) = self.tree.remove_node(&key) {
                self.count = self.count.saturating_sub(1);
                // INVARIANT: The key is what it was; nobody looks for what is mapped there.
                gone.tree.insert(node);
            }
        }
        removed
    }

    /// The block of 2M around `iova`, if all of it is mapped, and by one of them.
    pub(crate) fn whole_block(&self, iova: Iova) -> Option<IovaRange> {
        let block = IovaRange::block(iova, PageSize::SIZE_2M);
        let is_whole = |(_, joined): (Key, &Joined)| {
            let pages = joined.pages_of(block);
            pages.is_some_and(|pages| joined.pieces.are_all_in(pages))
        };

        self.over(block).any(is_whole).then_some(block)
    }

    /// Frees all, and settles their accounts.
    pub(super) fn settle(&mut self) {
        while let Some((key, _)) = self.from((Iova::ZERO, 0)) {
            if let Some(joined) = self.tree.remove(&key) {
                joined.locked.settle();
            }
            cond_resched();
        }
    }
}
