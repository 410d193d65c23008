// SPDX-License-Identifier: GPL-2.0

//! Pins memory of a process.

#![allow(unsafe_code)]

use kernel::{
    alloc::AllocError,
    mm::virt::flags,
    prelude::*, //
};

use super::{
    locked_vm::Locked,
    mmap_lock::{
        Plain,
        ReadLock, //
    },
    pfnmap::frames_at,
    pinned::{
        frame,
        Kind,
        PinnedRun, //
    },
    user_addr::UserAddr, //
};
use crate::{
    pgtable::Phys,
    sys::{
        bindings,
        num::{
            to_u64,
            to_usize, //
        },
        sched::cond_resched_killable, //
    }, //
};

/// Pages per call of GUP if they are small, or have to be faulted in. Fast GUP disables interrupts
/// for some hundred instructions per page.
pub(super) const BATCH: usize = 512;

/// Pages per call after a page of a large folio: they cost some instructions each. The next ones
/// may be small nevertheless.
const LARGE_BATCH: usize = 4096;

/// Pages per call in hugetlb VMAs: all are large.
const HUGE_BATCH: usize = 16384;

/// Arrays for the pages of one GUP call.
pub(crate) struct Buffer {
    pub(super) pages: KVVec<*mut bindings::page>,
    /// For the frames of a [`BATCH`]. Empty between two uses.
    pub(super) frames: KVVec<Phys>,
}

// SAFETY: The pointers are valid in any thread. The buffer is empty between two uses.
unsafe impl Send for Buffer {}

impl Buffer {
    /// An empty buffer.
    pub(crate) fn new() -> Result<Self, AllocError> {
        Ok(Self {
            pages: KVVec::from_elem(core::ptr::null_mut(), HUGE_BATCH, GFP_KERNEL_ACCOUNT)?,
            frames: KVVec::with_capacity(BATCH, GFP_KERNEL_ACCOUNT)?,
        })
    }
}

/// Result of the slow path.
enum Slowly {
    Pages(usize),
    Frames(PinnedRun),
}

/// Pins pages of the current process from `start` on that are present, up to the length of `pages`.
/// Returns their number. Sleeps: GUP may wait for mmap_lock.
pub(super) fn pin_present(
    pages: &mut [*mut bindings::page],
    start: UserAddr,
    write: bool,
) -> usize {
    let write = if write { bindings::FOLL_WRITE } else { 0 };
    let Ok(room @ 1..) = c_int::try_from(pages.len()) else {
        return 0;
    };
    // SAFETY:
    // - There is room for as many pointers.
    // - The current task is a process with an mm.
    let got = unsafe {
        bindings::pin_user_pages_fast(
            start.get(),
            room,
            bindings::FOLL_LONGTERM | bindings::FOLL_NOFAULT | write,
            pages.as_mut_ptr(),
        )
    };
    // An error is reported by `pin_absent`.
    usize::try_from(got).unwrap_or(0)
}

/// Pins pages of the process whose mmap_lock is held, from `start` on, up to the length of `pages`.
/// Faults them in. Returns their number: at least one.
pub(super) fn pin_absent(
    lock: &ReadLock<'_>,
    pages: &mut [*mut bindings::page],
    start: UserAddr,
    write: bool,
) -> Result<usize> {
    let write = if write { bindings::FOLL_WRITE } else { 0 };
    // SAFETY:
    // - There is room for as many pointers.
    // - The mm is valid and its mmap_lock is held. GUP does not drop it, since `locked` is NULL.
    let got = unsafe {
        bindings::pin_user_pages_remote(
            lock.mm().as_raw(),
            start.get(),
            pages.len(),
            bindings::FOLL_LONGTERM | write,
            pages.as_mut_ptr(),
            core::ptr::null_mut(),
        )
    };
    match usize::try_from(got) {
        Ok(0) => Err(EFAULT),
        Ok(got) => Ok(got),
        Err(_) => Err(Error::from_errno(c_int::try_from(got)?)),
    }
}

/// Pins a range of the current process's memory, in physically contiguous runs.
pub(crate) struct Pinner<'a> {
    buffer: &'a mut [*mut bindings::page],
    /// Pages that are pinned, but in no run yet: `buffer[ready.0..ready.1]`.
    ready: (usize, usize),
    /// A run that may be extended.
    held: Option<PinnedRun>,
    /// The next address to pin.
    next: UserAddr,
    left: u64,
    write: bool,
    /// The plain range that was read last.
    plain: Plain,
    /// Number of pages for the next call of GUP.
    batch: usize,
    charged: u64,
}

impl<'a> Pinner<'a> {
    /// Pins `pages` pages from `start` on; `write` if devices write.
    pub(crate) fn new(buffer: &'a mut Buffer, start: UserAddr, pages: u64, write: bool) -> Self {
        Self {
            buffer: &mut buffer.pages,
            ready: (0, 0),
            held: None,
            next: start,
            left: pages,
            write,
            plain: Plain::default(),
            batch: BATCH,
            charged: 0,
        }
    }

    /// Number of pages that were charged. Dropping the pinner does not uncharge those that it
    /// unpins.
    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// The next run, as long as possible; `None` at the end.
    ///
    /// Sleeps, and takes mmap_lock. Fails with `EFAULT` if memory is not mapped or not writable,
    /// `ENOMEM` without memory or beyond RLIMIT_MEMLOCK, and `EINTR` on a fatal signal.
    pub(crate) fn next_run(&mut self, locked: &Locked) -> Result<Option<PinnedRun>> {
        loop {
            let piece = match self.take_ready()? {
                Some(piece) => piece,
                None if self.left == 0 => return Ok(self.held.take()),
                None => match self.refill(locked)? {
                    Some(piece) => piece,
                    None => continue,
                },
            };
            if let done @ Some(_) = self.hold(piece) {
                return Ok(done);
            }
        }
    }

    /// Extends the held run with `piece`. If that is not possible, returns the run and holds
    /// `piece`.
    fn hold(&mut self, piece: PinnedRun) -> Option<PinnedRun> {
        match &mut self.held {
            Some(held) => held
                .extend(piece)
                .map(|piece| core::mem::replace(held, piece)),
            None => {
                self.held = Some(piece);
                None
            }
        }
    }

    /// Takes the contiguous pages at the start of `ready`.
    fn take_ready(&mut self) -> Result<Option<PinnedRun>> {
        let ready = self.buffer.get(self.ready.0..self.ready.1).unwrap_or(&[]);
        let Some(first) = ready.first() else {
            return Ok(None);
        };
        let count = followers(ready);
        // SAFETY: GUP returned the page, and it is still pinned.
        let pfn = to_u64(unsafe { bindings::pgsize_page_to_pfn(*first) });
        let phys = frame(pfn)?;

        self.ready.0 = self.ready.0.saturating_add(count);
        Ok(Some(PinnedRun::new(phys, to_u64(count), Kind::Memory)))
    }

    /// Pins and charges more pages, or returns frames that are no memory.
    fn refill(&mut self, locked: &Locked) -> Result<Option<PinnedRun>> {
        cond_resched_killable()?;

        let mut got = self.refill_quickly()?;
        if got == 0 {
            match self.refill_slowly()? {
                Slowly::Pages(pages) => got = pages,
                Slowly::Frames(frames) => return Ok(Some(frames)),
            }
        }
        // If charging fails, dropping the pinner unpins all that is ready.
        self.ready = (0, got);
        let last = self.buffer.get(got.wrapping_sub(1));
        self.batch = match last {
            // SAFETY: GUP returned the page, and it is pinned.
            Some(last) if unsafe { bindings::pgsize_page_is_large(*last) } => LARGE_BATCH,
            _ => BATCH,
        };
        locked.charge(to_u64(got))?;
        self.charged = self.charged.saturating_add(to_u64(got));
        self.advance(to_u64(got));
        Ok(None)
    }

    /// Pins pages that are present. Reads VMAs only at the end of the plain range.
    fn refill_quickly(&mut self) -> Result<usize> {
        if self.plain.pages_from(self.next) == 0 {
            let current = kernel::current!();
            let lock = ReadLock::killable(current.mm().ok_or(ENODEV)?)?;
            self.plain = Plain::around(&lock, self.next, self.left, self.write);
        }
        let batch = if self.plain.is_huge() {
            HUGE_BATCH
        } else {
            self.batch
        };
        let wanted = to_usize(self.left.min(self.plain.pages_from(self.next))).min(batch);
        let buffer = self.buffer.get_mut(..wanted).unwrap_or(&mut []);

        Ok(pin_present(buffer, self.next, self.write))
    }

    /// Pins pages that are not present, as type1 pins all (`vfio_iommu_type1.c: vaddr_get_pfns`):
    /// faults are not handled by userspace, mmap_lock is not dropped, and protection keys do not
    /// apply. Memory that cannot be pinned may be a VM_PFNMAP mapping of device registers.
    ///
    /// `ready` is empty.
    fn refill_slowly(&mut self) -> Result<Slowly> {
        let current = kernel::current!();
        let lock = ReadLock::killable(current.mm().ok_or(ENODEV)?)?;
        let wanted = to_usize(self.left).min(BATCH);
        let buffer = self.buffer.get_mut(..wanted).unwrap_or(&mut []);

        match pin_absent(&lock, buffer, self.next, self.write) {
            Ok(got) => Ok(Slowly::Pages(got)),
            Err(refused) => self.frames(&lock, refused).map(Slowly::Frames),
        }
    }

    fn frames(&mut self, lock: &ReadLock<'_>, refused: Error) -> Result<PinnedRun> {
        let address = lock.untagged(self.next);

        let (pfn, reach) = loop {
            let vma = lock.vma_at(address).ok_or(refused)?;
            if vma.flags() & flags::PFNMAP == 0 {
                return Err(refused);
            }
            if let Some(found) = frames_at(vma, address, self.write)? {
                break found;
            }
        };
        // SAFETY: It accepts any number.
        if unsafe { bindings::pgsize_pfn_is_memory(to_usize(pfn)) } {
            return Err(EFAULT);
        }
        let pages = reach.min(self.left);
        let phys = frame(pfn)?;
        self.advance(pages);
        Ok(PinnedRun::new(phys, pages, Kind::Frames))
    }

    fn advance(&mut self, pages: u64) {
        self.next = self.next.after(pages);
        self.left = self.left.saturating_sub(pages);
    }
}

impl Drop for Pinner<'_> {
    fn drop(&mut self) {
        if let Some(ready @ [_, ..]) = self.buffer.get_mut(self.ready.0..self.ready.1) {
            // SAFETY: GUP pinned them, and they are in no run.
            unsafe { bindings::unpin_user_pages(ready.as_mut_ptr(), ready.len()) };
        }
    }
}

/// The number of pages, from the first one on, that are physically contiguous.
///
/// Compares 64 pages at a time: three instructions per page.
fn followers(pages: &[*mut bindings::page]) -> usize {
    let Some(first) = pages.first() else {
        return 0;
    };
    let mut known = 0usize;

    if pages
        .get(1)
        .is_some_and(|second| *second != first.wrapping_add(1))
    {
        return 1;
    }
    for chunk in pages.chunks_exact(64) {
        let follow = |at: usize| match chunk.get(at..).and_then(|chunk| chunk.first_chunk()) {
            Some(chunk) => are_from(chunk, first.wrapping_add(known.wrapping_add(at))),
            None => false,
        };
        if !(follow(0) && follow(16) && follow(32) && follow(48)) {
            break;
        }
        known = known.wrapping_add(64);
    }
    let rest = pages.get(known..).unwrap_or(&[]).iter().enumerate();
    let more = rest.take_while(|(at, page)| **page == first.wrapping_add(known.wrapping_add(*at)));
    known.saturating_add(more.count())
}

/// Whether `pages` are contiguous from `first` on.
#[inline(always)]
fn are_from(pages: &[*mut bindings::page; 16], first: *mut bindings::page) -> bool {
    let follows = |(at, page): (usize, &*mut bindings::page)| *page == first.wrapping_add(at);

    pages
        .iter()
        .enumerate()
        .map(follows)
        .fold(true, |all, one| all & one)
}
