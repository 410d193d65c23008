// SPDX-License-Identifier: GPL-2.0

//! What a container knows of its emulated devices: their groups, and the pages that they have pinned.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

use super::{
    mapping::Mappings,
    written::Written, //
};
use crate::{
    iommu::Group,
    mm::PinnedRun,
    pgtable::{
        Iova,
        IovaRange,
        PageSize, //
    }, //
};

/// A page that emulated devices have pinned.
pub(super) struct Pin {
    /// The page, with one pin.
    pub(super) page: PinnedRun,
    /// The number of times that devices have pinned it.
    pub(super) count: u32,
    /// The process is charged for this pin.
    pub(super) charged: bool,
}

/// A node for one more page.
pub(super) struct PinRoom(RBTreeNodeReservation<Iova, Pin>);

impl PinRoom {
    /// Allocates it. Fails with `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?))
    }
}

/// A range that devices are being told to unpin.
struct Leaving {
    number: u64,
    range: IovaRange,
}

/// The emulated devices of a container.
///
/// # Invariants
///
/// Each page of `pins` is in a complete mapping.
pub(super) struct Emulated {
    /// Their groups.
    pub(super) groups: KVec<Group>,
    /// Pinned pages by IOVA.
    pins: RBTree<Iova, Pin>,
    /// Ranges in which no page can be pinned now.
    leaving: KVec<Leaving>,
    next: u64,
    /// While dirty tracking is on: pages that no page table has a dirty bit for. All of `pins` are there.
    pub(super) written: Written,
}

impl Emulated {
    /// No group, and no page.
    pub(super) fn new() -> Self {
        // INVARIANT: There are no pages.
        Self {
            groups: KVec::new(),
            pins: RBTree::new(),
            leaving: KVec::new(),
            next: 0,
            written: Written::new(),
        }
    }

    /// Whether there is a group of emulated devices.
    pub(super) fn any(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The first pinned page of `range`.
    pub(super) fn first_in(&self, range: IovaRange) -> Option<Iova> {
        let first = *self.pins.cursor_lower_bound(&range.start())?.current().0;

        range.contains(first).then_some(first)
    }

    /// A pinned page.
    pub(super) fn get_mut(&mut self, page: Iova) -> Option<&mut Pin> {
        self.pins.get_mut(&page)
    }

    /// Adds a page, which is not in the tree.
    pub(super) fn insert(&mut self, room: PinRoom, page: Iova, pin: Pin) {
        self.pins.insert(room.0.into_node(page, pin));
    }

    /// Removes a page.
    pub(super) fn remove(&mut self, page: Iova) -> Option<Pin> {
        self.pins.remove(&page)
    }

    /// Whether devices are being told to unpin a part of `range`.
    pub(super) fn is_leaving(&self, range: IovaRange) -> bool {
        let mut leaving = self.leaving.iter();

        leaving.any(|leaving| leaving.range.intersect(range).is_some())
    }

    /// Pins in `range` fail until it has [`left`](Self::left). Returns its number.
    pub(super) fn leave(&mut self, range: IovaRange) -> Result<u64> {
        let number = self.next;

        self.leaving
            .push(Leaving { number, range }, GFP_KERNEL_ACCOUNT)?;
        self.next = number.wrapping_add(1);
        Ok(number)
    }

    /// The range of this number can be pinned again.
    pub(super) fn left(&mut self, number: u64) {
        self.leaving.retain(|leaving| leaving.number != number);
    }

    /// All pages that are pinned in `range` count as written: devices may write them at any time.
    pub(super) fn write_pinned(&mut self, range: IovaRange) {
        let mut left = Some(range);

        while let Some(page) = left.and_then(|left| self.first_in(left)) {
            let page = page_of(page);
            self.written.add(page);
            left = range.behind(page.last());
        }
    }

    /// Uncharges the pins, because their mappings will be charged. The pages become spare.
    pub(super) fn charge_with(&mut self, mappings: &Mappings) {
        for (page, pin) in self.pins.iter_mut() {
            if let Some(mapping) = mappings.at(*page).filter(|_| pin.charged) {
                mapping.locked.release(1);
                pin.charged = false;
            }
        }
    }

    /// Charges the pins from spare pages of their mappings.
    pub(super) fn charge_alone(&mut self, mappings: &Mappings) {
        for (page, pin) in self.pins.iter_mut() {
            if let Some(mapping) = mappings.at(*page).filter(|_| !pin.charged) {
                pin.charged = mapping.locked.charge_spare(1) != 0;
            }
        }
    }
}

/// The page of `iova`.
pub(super) fn page_of(iova: Iova) -> IovaRange {
    IovaRange::block(iova, PageSize::SIZE_4K)
}
