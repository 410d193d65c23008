// SPDX-License-Identifier: GPL-2.0

//! What the hook and a container share: counters, tables in stock, and retired tables.

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

/// Counters of a container, from its creation on.
#[derive(Default)]
pub(crate) struct Stats {
    /// Leaves that were split for the RMP.
    pub(crate) splits: AtomicU64,
    /// Leaves that were merged for the RMP.
    pub(crate) merges: AtomicU64,
    /// Leaves that the hook unmapped for lack of memory.
    pub(crate) fallbacks: AtomicU64,
    /// Ranges that were mapped again after a fallback.
    pub(crate) repairs: AtomicU64,
    /// Leaves that were found to disagree with the RMP.
    pub(crate) mismatches: AtomicU64,
}

/// What the hook and a container share.
pub(crate) struct Follower {
    /// The number of the container, in trace events and debugfs.
    pub(crate) id: u64,
    /// The counters.
    pub(crate) stats: Stats,
    /// Tables for the hook.
    pub(crate) reserve: Reserve,
    /// The worker has to signal the eventfd.
    event_pending: AtomicBool,
    retired: Retired,
}

impl Follower {
    /// For the container with number `id`. Fails with `ENOMEM`.
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

    /// Lets the worker signal the eventfd of the VMM. Atomic.
    pub(crate) fn notify_vmm(&self) {
        self.event_pending.store(true, Ordering::Release);
        work_now();
    }

    /// Whether [`Self::notify_vmm`] was called since the last call of this. Atomic.
    pub(crate) fn take_event_pending(&self) -> bool {
        self.event_pending.swap(false, Ordering::Acquire)
    }

    /// Counts and traces a leaf that disagrees with the RMP, and notifies the VMM. Atomic.
    pub(crate) fn report_mismatch(&self, at: Where) {
        count(&self.stats.mismatches, 1);
        trace::mismatch(self.id, at);
        self.notify_vmm();
    }

    /// The hook's table stock.
    ///
    /// # Safety
    ///
    /// The rmap's lock is held while the result is used.
    pub(crate) unsafe fn tables(&self) -> HookTables<'_> {
        // INVARIANT: By the requirement.
        HookTables(self)
    }

    /// The list of tables that the hook retired.
    fn retired(&self) -> *mut bindings::iommu_pages_list {
        self.retired.0.get()
    }

    /// Frees the tables that the hook retired.
    ///
    /// # Safety
    ///
    /// The mutex of the container is held, and its holder does not read page tables meanwhile.
    pub(crate) unsafe fn free_retired(&self) {
        let mut taken = MaybeUninit::uninit();
        {
            let _guard = Guard::lock();
            // SAFETY: Both lists are valid, and the lock is held.
            unsafe { bindings::pgsize_list_take(taken.as_mut_ptr(), self.retired()) };
        }
        // SAFETY: The list is valid. By the requirement nothing reads the tables.
        unsafe { bindings::iommu_put_pages_list(taken.as_mut_ptr()) };
    }
}

/// The hook's table stock.
///
/// # Invariants
///
/// The rmap's lock is held.
pub(crate) struct HookTables<'f>(&'f Follower);

impl Store for HookTables<'_> {
    fn take(&self, node: c_int) -> Option<NonNull<c_void>> {
        // SAFETY: By the type invariant.
        unsafe { self.0.reserve.take(node) }
    }

    unsafe fn keep(&self, table: *mut c_void) {
        // SAFETY: The list is valid, and the lock that protects it is held. The table is in no
        // other list.
        unsafe { bindings::pgsize_list_add_table(self.0.retired(), table) };
    }
}

/// Tables that are neither in a page table nor in an IOTLB, but that the holder of the container's
/// mutex may still read.
///
/// # Invariants
///
/// A list head that does not move. Protected by the rmap's lock.
struct Retired(KBox<UnsafeCell<bindings::iommu_pages_list>>);

// SAFETY: Accessed under the rmap's lock only.
unsafe impl Send for Retired {}

// SAFETY: As above.
unsafe impl Sync for Retired {}

impl Retired {
    fn new() -> Result<Self> {
        let list = KBox::new(
            UnsafeCell::new(bindings::iommu_pages_list::default()),
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: The pointer is valid for writes. The head of an empty list points to itself.
        unsafe { bindings::pgsize_list_init(list.get()) };
        // INVARIANT: The list is empty, and on the heap.
        Ok(Self(list))
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        // SAFETY: Nothing else has the list: the container is gone, or was never created.
        unsafe { bindings::iommu_put_pages_list(self.0.get()) };
    }
}

/// Adds `number` to `counter`. Atomic.
pub(crate) fn count(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}
