// SPDX-License-Identifier: GPL-2.0

//! The mappings of a container, by IOVA.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::Arc, //
};

use super::{
    claims::ClaimId,
    joined::{
        JoinedMappings,
        Key, //
    },
    joined_entry::{
        Grain,
        Part, //
    }, //
};
use crate::{
    iommu::Access,
    mm::{
        Locked,
        UserAddr, //
    },
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        PAGE_BYTES, //
    }, //
};

/// A mapping, or what is left of it.
pub(crate) struct Mapping {
    /// The IOVA range.
    pub(crate) range: IovaRange,
    /// The process address of `range.start()`.
    pub(crate) memory: UserAddr,
    /// DMA permissions.
    pub(crate) access: Access,
    /// Pages have a state: only shared ones are mapped.
    pub(crate) stateful: bool,
    /// Some frames may be no memory, and are not pinned then.
    pub(crate) mixed: bool,
    /// The process address of the memory is invalid: nothing can be pinned.
    pub(crate) vaddr_invalid: bool,
    /// The map request is in progress.
    pub(crate) in_progress: Option<InProgress>,
    /// The process, for pinning and accounting.
    pub(crate) locked: Arc<Locked>,
}

impl From<Part> for Mapping {
    /// A part of a joined mapping, as a mapping that is complete.
    fn from(part: Part) -> Self {
        Self {
            range: part.range,
            memory: part.memory,
            access: part.access,
            stateful: false,
            mixed: false,
            vaddr_invalid: false,
            in_progress: None,
            locked: part.locked,
        }
    }
}

/// How far a map request is.
#[derive(Clone, Copy)]
pub(crate) struct InProgress {
    /// The claim of the request.
    pub(crate) claim: ClaimId,
    /// It is to be joined, and is not counted as a mapping.
    pub(crate) joins: bool,
    /// What is mapped so far, from the start of the mapping on.
    pub(crate) mapped: Option<IovaRange>,
}

impl Mapping {
    /// The range in which pages may be mapped.
    pub(crate) fn mapped(&self) -> Option<IovaRange> {
        self.in_progress
            .map_or(Some(self.range), |in_progress| in_progress.mapped)
    }

    /// Whether it is in progress and to be joined.
    pub(crate) fn joins(&self) -> bool {
        self.in_progress
            .is_some_and(|in_progress| in_progress.joins)
    }

    /// The process address of `iova`, which is in the mapping.
    pub(crate) fn memory_at(&self, iova: Iova) -> UserAddr {
        self.memory
            .after(iova.above(self.range.start()) / PAGE_BYTES)
    }

    /// As a part of a joined mapping.
    pub(crate) fn as_part(&self) -> Part {
        Part {
            range: self.range,
            memory: self.memory,
            access: self.access,
            locked: self.locked.clone(),
        }
    }

    /// A copy.
    pub(crate) fn copy(&self) -> Self {
        self.part(self.range)
    }

    /// The part of the mapping in `range`.
    pub(crate) fn part(&self, range: IovaRange) -> Self {
        Self {
            range,
            memory: self.memory_at(range.start()),
            locked: self.locked.clone(),
            ..*self
        }
    }
}

/// Memory for one more mapping.
pub(crate) struct NodeReservation(RBTreeNodeReservation<Iova, Mapping>);

impl NodeReservation {
    /// Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?))
    }
}

/// The mappings of a container.
///
/// # Invariants
///
/// No two of `single` overlap. The key of each is its last address: the first key from an address
/// on is that of the only mapping that can contain it. No page of `joined` is in one of them.
pub(crate) struct Mappings {
    /// All but joined mappings. The functions are about these unless they say otherwise.
    single: RBTree<Iova, Mapping>,
    /// The joined mappings.
    pub(crate) joined: JoinedMappings,
    /// How `overlapping` takes joined mappings apart.
    pub(crate) grain: Grain,
}

impl Mappings {
    /// No mappings.
    pub(crate) fn new() -> Self {
        // INVARIANT: There is none.
        Self {
            single: RBTree::new(),
            joined: JoinedMappings::new(),
            grain: Grain::Spans,
        }
    }

    /// The first mapping that overlaps `range`.
    pub(crate) fn first_in(&self, range: IovaRange) -> Option<&Mapping> {
        // Copied out and looked up again: a cursor's borrow ends with the cursor.
        let key = *self.single.cursor_lower_bound(&range.start())?.current().0;

        self.single
            .get(&key)
            .filter(|mapping| mapping.range.start() <= range.last())
    }

    /// The same, to be changed.
    pub(super) fn first_in_mut(&mut self, range: IovaRange) -> Option<&mut Mapping> {
        let key = self.first_in(range)?.range.last();

        self.single.get_mut(&key)
    }

    /// The mappings that overlap `range`, in ascending order.
    pub(super) fn single_in(&self, range: IovaRange) -> impl Iterator<Item = &Mapping> {
        let mut left = Some(range);

        core::iter::from_fn(move || {
            let found = self.first_in(left?)?;
            left = range.behind(found.range.last());
            Some(found)
        })
    }

    /// The last address of the last mapping that ends before `iova`.
    pub(super) fn last_before(&self, iova: Iova) -> Option<Iova> {
        match self.single.cursor_lower_bound(&iova) {
            Some(behind) => behind.peek_prev().map(|(last, _)| *last),
            None => self.single.cursor_back().map(|last| *last.current().0),
        }
    }

    /// Whether a mapping overlaps `range`, or a page of a joined mapping is in it.
    pub(crate) fn any_in(&self, range: IovaRange) -> bool {
        self.first_in(range).is_some() || self.joined.any_in(range)
    }

    /// The mapping that contains `iova`.
    pub(crate) fn at(&self, iova: Iova) -> Option<&Mapping> {
        self.first_in(IovaRange::block(iova, PageSize::SIZE_4K))
    }

    /// Whether a mapping that is not in progress, or a piece of a joined mapping, crosses an end of
    /// `range`.
    pub(crate) fn crosses_end_of(&self, range: IovaRange) -> bool {
        let crosses = |iova| {
            self.at(iova).is_some_and(|mapping| {
                mapping.in_progress.is_none() && !range.covers(mapping.range)
            })
        };

        crosses(range.start()) || crosses(range.last()) || self.joined.are_cut_by(range)
    }

    /// Whether a mapping that is not in progress, or a piece of a joined mapping, begins before `iova`
    /// and contains it.
    pub(super) fn go_on_at(&self, iova: Iova) -> bool {
        let goes_on =
            |mapping: &Mapping| mapping.in_progress.is_none() && mapping.range.start() < iova;

        self.at(iova).is_some_and(goes_on) || self.joined.go_on_at(iova)
    }

    /// `range`, and the rest of what crosses its last address: a mapping that is not in progress, or a
    /// piece of a joined mapping.
    pub(super) fn to_end_of_last(&self, range: IovaRange) -> IovaRange {
        let single = self
            .at(range.last())
            .filter(|mapping| mapping.in_progress.is_none())
            .map(|mapping| mapping.range.last());
        let last = single.or_else(|| self.joined.last_of_piece(range.last()));

        last.and_then(|last| IovaRange::new(range.start(), last))
            .unwrap_or(range)
    }

    /// Adds `mapping`, which overlaps no other.
    pub(crate) fn insert(&mut self, reservation: NodeReservation, mapping: Mapping) {
        // INVARIANT: The key is the last address.
        self.single
            .insert(reservation.0.into_node(mapping.range.last(), mapping));
    }

    /// Splits the mapping that starts before `at` and contains it, unless it is in progress.
    /// Returns whether there is one.
    pub(crate) fn split_mapping(&mut self, at: Iova, reservation: NodeReservation) -> bool {
        let halves = |whole: &Mapping| {
            if whole.in_progress.is_some() {
                return None;
            }
            let left = IovaRange::new(whole.range.start(), at.before()?)?;
            Some((whole.part(left), whole.part(whole.range.from(at)?)))
        };
        let Some((left, right)) = self.at(at).and_then(halves) else {
            return false;
        };

        if let Some(node) = self.single.remove_node(&right.range.last()) {
            // INVARIANT: The key is the last address, and they do not overlap.
            self.single
                .insert(node.into_reservation().into_node(left.range.last(), left));
            self.insert(reservation, right);
        }
        true
    }

    /// The mapping that starts at `iova`, if it is in progress under `claim`.
    pub(crate) fn in_progress_at(&mut self, iova: Iova, claim: ClaimId) -> Option<&mut Mapping> {
        let is_it = |mapping: &Mapping| {
            mapping.range.start() == iova
                && mapping
                    .in_progress
                    .is_some_and(|in_progress| in_progress.claim == claim)
        };
        let key = self.at(iova).filter(|mapping| is_it(mapping))?.range.last();

        self.single.get_mut(&key)
    }

    /// Moves the mapping at `mapping` to `others`, where it overlaps none.
    pub(crate) fn move_to(&mut self, others: &mut Self, mapping: IovaRange) {
        if let Some(node) = self.single.remove_node(&mapping.last()) {
            // INVARIANT: The key is what it was.
            others.single.insert(node);
        }
    }
}

/// Removed mappings. Dropping it settles their accounts, so no lock may be held.
pub(crate) struct RemovedMappings(Mappings);

impl RemovedMappings {
    /// None.
    pub(crate) fn none() -> Self {
        Self(Mappings::new())
    }

    /// Takes the mapping at `mapping` from `mappings`.
    pub(crate) fn take(&mut self, mappings: &mut Mappings, mapping: IovaRange) {
        mappings.move_to(&mut self.0, mapping);
    }

    /// Removes the pages of `range` of the joined mapping of `mappings` that has this key. Returns their
    /// number.
    pub(super) fn take_joined_from(
        &mut self,
        mappings: &mut Mappings,
        key: Key,
        range: IovaRange,
    ) -> u64 {
        mappings.joined.remove_from(key, range, &mut self.0.joined)
    }

    /// Removes the pages of `part`, of a joined mapping of `mappings`. Returns their number.
    pub(crate) fn take_joined(&mut self, mappings: &mut Mappings, part: &Part) -> u64 {
        mappings.joined.remove(part, &mut self.0.joined)
    }
}

impl Drop for RemovedMappings {
    fn drop(&mut self) {
        for mapping in self.0.single.values() {
            mapping.locked.settle();
        }
        self.0.joined.settle();
    }
}
