// SPDX-License-Identifier: GPL-2.0

//! What a container and the hook have in common: counters, tables that are kept ready, and tables that
//! are to be freed.

#![allow(unsafe_code)]

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr::NonNull,
    sync::atomic::{
        AtomicBool,
        AtomicU64,
        Ordering, //
    }, //
};

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    lock::Guard,
    reserve::Reserve,
    work::work_now, //
};
use crate::{
    iommu::Store,
    sys::{
        bindings,
        trace::{
            self,
            Where, //
        }, //
    }, //
};

/// What became of a container's leaves, counted from its first group on.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) splits: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
    pub(crate) repairs: AtomicU64,
    pub(crate) mismatches: AtomicU64,
}

/// What a container and the hook have in common.
pub(crate) struct Follower {
    /// The container's number, by which it goes in traces and in debugfs.
    pub(crate) id: u64,
    pub(crate) stats: Stats,
    /// Tables that the hook needs.
    pub(crate) reserve: Reserve,
    /// The VMM is to be told.
    event_pending: AtomicBool,
    retired: Retired,
}

impl Follower {
    pub(crate) fn new(id: u64) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                id,
                stats: Stats::default(),
                reserve: Reserve::new()?,
                event_pending: AtomicBool::new(false),
                retired: Retired::new()?,
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// Has the worker tell the VMM that something went wrong. Atomic.
    pub(crate) fn notify_vmm(&self) {
        self.event_pending.store(true, Ordering::Release);
        work_now();
    }

    /// Whether the VMM is to be told, since this was last asked.
    pub(crate) fn take_event_pending(&self) -> bool {
        self.event_pending.swap(false, Ordering::Acquire)
    }

    /// Counts a leaf that was found to disagree with the RMP, and has the VMM told. Atomic.
    pub(crate) fn report_mismatch(&self, at: Where) {
        count(&self.stats.mismatches, 1);
        trace::mismatch(self.id, at);
        self.notify_vmm();
    }

    /// What the hook edits with.
    ///
    /// # Safety
    ///
    /// The lock of the tree is held as long as the result is used.
    pub(crate) unsafe fn tables(&self) -> HookTables<'_> {
        // INVARIANT: By the requirement.
        HookTables(self)
    }

    /// Where tables go that the hook takes out.
    fn retired(&self) -> *mut bindings::iommu_pages_list {
        self.retired.0.get()
    }

    /// Frees the tables that the hook took out.
    ///
    /// # Safety
    ///
    /// The container's mutex is held, and nobody who holds it reads its page tables.
    pub(crate) unsafe fn free_retired(&self) {
        let mut taken = MaybeUninit::uninit();
        {
            let _guard = Guard::lock();
            // SAFETY: Both are valid, and the lock is held.
            unsafe { bindings::pgsize_list_take(taken.as_mut_ptr(), self.retired()) };
        }
        // SAFETY: The list is valid, and by the requirement no reader is left.
        unsafe { bindings::iommu_put_pages_list(taken.as_mut_ptr()) };
    }
}

/// What the hook edits with: a follower's tables.
///
/// # Invariants
///
/// The lock of the tree is held.
pub(crate) struct HookTables<'f>(&'f Follower);

impl Store for HookTables<'_> {
    fn take(&self, node: c_int) -> Option<NonNull<c_void>> {
        // SAFETY: By the type invariant.
        unsafe { self.0.reserve.take(node) }
    }

    unsafe fn keep(&self, table: *mut c_void) {
        // SAFETY: The list is valid, and the lock that protects it is held. The table is in no other.
        unsafe { bindings::pgsize_list_add_table(self.0.retired(), table) };
    }
}

/// Tables that are in no page table and in no IOTLB any more, but which somebody may be reading who
/// holds the container's mutex.
///
/// # Invariants
///
/// The head of a list, at its place on the heap; read and written under the lock of the tree.
struct Retired(KBox<UnsafeCell<bindings::iommu_pages_list>>);

// SAFETY: It is touched under the lock of the tree.
unsafe impl Send for Retired {}

// SAFETY: As above.
unsafe impl Sync for Retired {}

impl Retired {
    fn new() -> Result<Self> {
        let list = KBox::new(
            UnsafeCell::new(bindings::iommu_pages_list::default()),
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: It is valid for writing. An empty list's head points at itself.
        unsafe { bindings::pgsize_list_init(list.get()) };
        // INVARIANT: Just made.
        Ok(Self(list))
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        // SAFETY: Nobody else has it; the container is gone, or never was.
        unsafe { bindings::iommu_put_pages_list(self.0.get()) };
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}
