// SPDX-License-Identifier: GPL-2.0

//! What the RMP says of frames, and of the blocks of 2M that its large entries cover.

#![allow(unsafe_code)]

use kernel::{
    error::to_result,
    prelude::*, //
};

use crate::{
    pgtable::{
        Phys,
        PAGE_BYTES, //
    },
    sys::bindings, //
};

/// Frames of 4K in a block of 2M.
pub(super) const BLOCK: u64 = 512;

pub(super) const BLOCK_BYTES: u64 = BLOCK * PAGE_BYTES;

/// Whether SNP is on: whether there is an RMP to follow.
pub(crate) fn is_snp_on() -> bool {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_rmp_is_on() }
}

/// What the RMP says of a frame.
#[derive(Clone, Copy)]
pub(crate) struct RmpEntry {
    pub(crate) assigned: bool,
    /// It is assigned by an entry of 2M, which is its block's. Of what is not assigned the RMP tells
    /// no size: it may be left over.
    pub(crate) large: bool,
}

impl RmpEntry {
    /// Only while the hook is registered. Fails with `EFAULT` if there is no entry for the frame, with
    /// `ENODEV` if SNP is off, and with another error if it can not be told now.
    fn of_pfn(pfn: u64) -> Result<Self> {
        let (mut assigned, mut large) = (false, false);
        // SAFETY: The hook is registered as long as anything is followed. Both are valid.
        to_result(unsafe { bindings::pgsize_rmp_lookup(pfn, &mut assigned, &mut large) })?;

        Ok(Self { assigned, large })
    }

    /// The entry that counts for an address: that of its block, if that is of 2M. `None`: there is none.
    pub(crate) fn of(phys: Phys) -> Option<Self> {
        let pfn = phys.get() / PAGE_BYTES;
        let first = *Block::of(phys).pfns().start();
        let whole = Self::of_pfn(first).ok().filter(|entry| entry.large);

        whole.or_else(|| Self::of_pfn(pfn).ok())
    }
}

/// A block of 2M of physical memory, aligned: what one large RMP entry covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block(u64);

impl Block {
    /// The block that holds the frame.
    pub(super) const fn of_pfn(pfn: u64) -> Self {
        Self(pfn / BLOCK)
    }

    /// The block that holds the address.
    pub(crate) const fn of(phys: Phys) -> Self {
        Self::of_pfn(phys.get() / PAGE_BYTES)
    }

    /// The block of this number.
    pub(super) const fn numbered(number: u64) -> Self {
        Self(number)
    }

    /// Its number, from address 0 on.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// Its frames.
    fn pfns(self) -> core::ops::RangeInclusive<u64> {
        let first = self.0.wrapping_mul(BLOCK);

        first..=first.wrapping_add(BLOCK - 1)
    }

    /// Whether a leaf over it would disagree with the RMP: it is of 4K entries, and one is assigned.
    /// While SNP is off none is.
    pub(crate) fn is_broken(self) -> bool {
        for pfn in self.pfns() {
            match RmpEntry::of_pfn(pfn) {
                Ok(entry) if entry.assigned => return !entry.large,
                Ok(_) => {}
                // What has no entry can be given to nobody; its neighbours may have one.
                Err(error) if error == EFAULT => {}
                Err(error) if error == ENODEV => return false,
                // Leaves of 4K are right, whatever it is.
                Err(_) => return true,
            }
        }
        false
    }
}
