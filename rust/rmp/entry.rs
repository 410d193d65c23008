// SPDX-License-Identifier: GPL-2.0

//! RMP entries, and the blocks of 2M that large entries cover.
//!
//! Source: AMD64 Architecture Programmer's Manual Volume 2, 15.36 "Secure Nested Paging", and
//! `arch/x86/virt/svm/sev.c`.

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

/// Pages of 4K in a block.
pub(super) const BLOCK: u64 = 512;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: u64 = BLOCK * PAGE_BYTES;

/// Whether this is an SNP host: SNP is on, or can be enabled.
pub(crate) fn is_snp_host() -> bool {
    // SAFETY: It has no requirements.
    unsafe { bindings::pgsize_rmp_is_host() }
}

/// Whether SNP is on, so that there is an RMP. Atomic.
pub(crate) fn is_snp_on() -> bool {
    // SAFETY: It may be called from anywhere.
    unsafe { bindings::pgsize_rmp_is_on() }
}

/// The right to read RMP entries where nothing follows them, until it is dropped.
pub(crate) struct RmpReader(());

impl RmpReader {
    /// Sleeps. Fails with `EOPNOTSUPP` if there is no RMP, or SNP is off.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Process context.
        to_result(unsafe { bindings::pgsize_rmp_open() })?;
        Ok(Self(()))
    }
}

impl Drop for RmpReader {
    fn drop(&mut self) {
        // SAFETY: It was opened, and is closed once. Process context.
        unsafe { bindings::pgsize_rmp_close() };
    }
}

/// An RMP entry.
#[derive(Clone, Copy)]
pub(crate) struct RmpEntry {
    /// The page is assigned to a guest or to firmware.
    pub(crate) assigned: bool,
    /// It is assigned, by a 2M entry. The RMP does not tell the size of an entry that is not
    /// assigned.
    pub(crate) large: bool,
}

impl RmpEntry {
    /// Reads the entry of a PFN. Call only while the hook is registered, or with an [`RmpReader`]. Atomic. Fails with
    /// `EFAULT` if the PFN has no entry, with `ENODEV` if SNP is off, and with another error if the
    /// RMP cannot be read now.
    fn of_pfn(pfn: u64) -> Result<Self> {
        let (mut assigned, mut large) = (false, false);
        // SAFETY: The hook is registered, or there is an `RmpReader`. Both pointers are valid.
        to_result(unsafe { bindings::pgsize_rmp_lookup(pfn, &mut assigned, &mut large) })?;

        Ok(Self { assigned, large })
    }

    /// The entry that the IOMMU uses for `phys`: that of its block if it is a 2M entry. `None`:
    /// there is none.
    pub(crate) fn of(phys: Phys) -> Option<Self> {
        let pfn = phys.get() / PAGE_BYTES;
        let first = *Block::of(phys).pfns().start();
        let whole = Self::of_pfn(first).ok().filter(|entry| entry.large);

        whole.or_else(|| Self::of_pfn(pfn).ok())
    }
}

/// A physical block of 2M, aligned: what a large RMP entry covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block(u64);

impl Block {
    /// The block of a PFN.
    pub(super) const fn of_pfn(pfn: u64) -> Self {
        Self(pfn / BLOCK)
    }

    /// The block of an address.
    pub(crate) const fn of(phys: Phys) -> Self {
        Self::of_pfn(phys.get() / PAGE_BYTES)
    }

    /// The block with this number.
    pub(super) const fn numbered(number: u64) -> Self {
        Self(number)
    }

    /// Its number: physical address / 2M.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// Its PFNs.
    fn pfns(self) -> core::ops::RangeInclusive<u64> {
        let first = self.0.wrapping_mul(BLOCK);

        first..=first.wrapping_add(BLOCK - 1)
    }

    /// Whether a large leaf over the block disagrees with the RMP: the block has 4K entries and one
    /// of them is assigned. `false` while SNP is off. Atomic; reads up to 512 entries.
    pub(crate) fn is_broken(self) -> bool {
        for pfn in self.pfns() {
            match RmpEntry::of_pfn(pfn) {
                Ok(entry) if entry.assigned => return !entry.large,
                Ok(_) => {}
                // A page without an entry cannot be assigned. Its neighbours may have entries.
                Err(error) if error == EFAULT => {}
                Err(error) if error == ENODEV => return false,
                // Unknown. 4K leaves agree with any entry.
                Err(_) => return true,
            }
        }
        false
    }
}
