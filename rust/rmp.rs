// SPDX-License-Identifier: GPL-2.0

//! What the RMP says of frames, and of the blocks of 2M that its large entries cover.

#![allow(unsafe_code)]

use crate::{
    bindings,
    pgtable::{
        Phys,
        PAGE_BYTES, //
    }, //
};

/// Frames of 4K in a block of 2M.
pub(crate) const BLOCK: u64 = 512;
pub(crate) const BLOCK_BYTES: u64 = BLOCK * PAGE_BYTES;

/// What the RMP says of a frame.
#[derive(Clone, Copy)]
pub(crate) struct RmpEntry {
    pub(crate) assigned: bool,
    /// Of 2M: it is its block's.
    pub(crate) large: bool,
}

impl RmpEntry {
    /// `None`: there is no entry for the frame. Only while the hook is registered.
    fn of_pfn(pfn: u64) -> Option<Self> {
        let (mut assigned, mut large) = (false, false);
        // SAFETY: The hook is registered as long as anything is followed. Both are valid.
        let error = unsafe { bindings::pgsize_rmp_lookup(pfn, &mut assigned, &mut large) };

        (error == 0).then_some(Self { assigned, large })
    }

    /// The entry that counts for an address: that of its block, if that is of 2M.
    pub(crate) fn of(phys: Phys) -> Option<Self> {
        let pfn = phys.get() / PAGE_BYTES;
        let first = *Block::of(phys).pfns().start();
        let entry = Self::of_pfn(pfn)?;

        if entry.large && pfn != first {
            return Self::of_pfn(first);
        }
        Some(entry)
    }
}

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

    /// Its number, from address 0 on.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// Its frames.
    pub(crate) fn pfns(self) -> core::ops::RangeInclusive<u64> {
        let first = self.0.wrapping_mul(BLOCK);

        first..=first.wrapping_add(BLOCK - 1)
    }

    /// Whether a leaf over it would disagree with the RMP: it is of 4K entries, and one is assigned.
    pub(crate) fn is_broken(self) -> bool {
        for pfn in self.pfns() {
            match RmpEntry::of_pfn(pfn) {
                None => return false,
                Some(entry) if entry.large => return false,
                Some(entry) if entry.assigned => return true,
                Some(_) => {}
            }
        }
        false
    }
}
