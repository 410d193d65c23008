// SPDX-License-Identifier: GPL-2.0

//! Which containers there are: VFIO, debugfs and the worker know them by number, never by pointer.
//!
//! VFIO calls ioctls with no lock held, with what it read of a container a while ago: by then that
//! may be gone, or be another backend's. A number is never used again, and whoever looks one up gets
//! a counted reference.

#![allow(unsafe_code)]

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::Arc, //
};

use crate::{
    container::Container,
    num::{
        to_u64,
        to_usize, //
    }, //
};

/// Numbers have no more bits than this.
const BITS: u32 = 47;

/// What VFIO is given has these bits beside the number: bits 63, 56 and 47 differ, which makes it an
/// address that no processor translates, with four levels of page tables or five, whichever upper
/// bits it ignores (LAM). It is not NULL, no `ERR_PTR`, and no pointer of another backend's; a
/// backend that takes it for its own faults at once.
const TAG: u64 = 1 << 56 | 1 << BITS;

/// A container's number: no two ever have the same while the module is loaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(u64);

impl Number {
    /// Before all others.
    pub(crate) const FIRST: Self = Self(0);

    /// One that nothing had before. Fails with `ENOSPC` when all are used up.
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = |number: u64| Some(number.wrapping_add(1)).filter(|next| *next <= 1 << BITS);

        match NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(number) => Ok(Self(number)),
            Err(_) => Err(ENOSPC),
        }
    }

    /// As it goes in traces and in debugfs.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The next in their order.
    pub(crate) fn next(self) -> Self {
        // It is less than 2^47.
        Self(self.0.wrapping_add(1))
    }

    /// What VFIO and debugfs are given for it, and hand back.
    pub(crate) fn to_data(self) -> *mut c_void {
        core::ptr::without_provenance_mut(to_usize(TAG | self.0))
    }

    /// The number that what is handed back stands for, if it is one.
    fn of_data(data: *mut c_void) -> Option<Self> {
        let data = to_u64(data.addr());

        (data >> BITS == TAG >> BITS).then_some(Self(data ^ TAG))
    }
}

kernel::sync::global_lock! {
    // SAFETY: Initialised when the module is loaded, before anything else.
    pub(crate) unsafe(uninit) static CONTAINERS: SpinLock<Option<RBTree<Number, Arc<Container>>>> =
        None;
}

/// Has `container` be found by its number.
pub(crate) fn add(container: &Arc<Container>) -> Result {
    let node = RBTreeNode::new(container.number, container.clone(), GFP_KERNEL_ACCOUNT)?;
    let old = CONTAINERS
        .lock()
        .get_or_insert_with(RBTree::new)
        .insert(node);

    // There was none: only now is the lock let go.
    drop(old);
    Ok(())
}

/// Has it not be found any more, and returns it.
pub(crate) fn remove(data: *mut c_void) -> Option<Arc<Container>> {
    let number = Number::of_data(data)?;
    let node = CONTAINERS.lock().as_mut()?.remove_node(&number);

    node.map(|node| node.to_key_value().1)
}

/// The container for which `data` was handed out, if it is still there.
pub(crate) fn find(data: *mut c_void) -> Option<Arc<Container>> {
    let number = Number::of_data(data)?;

    CONTAINERS.lock().as_ref()?.get(&number).cloned()
}

/// The first container whose number is `number` or more.
pub(crate) fn find_from(number: Number) -> Option<Arc<Container>> {
    let containers = CONTAINERS.lock();
    let cursor = containers.as_ref()?.cursor_lower_bound(&number)?;

    Some(cursor.current().1.clone())
}
