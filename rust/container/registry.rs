// SPDX-License-Identifier: GPL-2.0

//! The list of containers, by number.
//!
//! VFIO calls ioctls without a lock, with a data pointer that it read earlier: the container may be
//! gone, or belong to another backend. Numbers are not reused, and a lookup returns a counted
//! reference.

#![allow(unsafe_code)]

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::Arc, //
};

use super::{
    number::Number,
    Container, //
};

kernel::sync::global_lock! {
    // SAFETY: Initialized when the module is loaded, before any use.
    pub(crate) unsafe(uninit) static CONTAINERS: SpinLock<Option<RBTree<Number, Arc<Container>>>> =
        None;
}

/// Adds `container`. Fails with `ENOMEM`.
pub(crate) fn add(container: &Arc<Container>) -> Result {
    let node = RBTreeNode::new(container.number, container.clone(), GFP_KERNEL_ACCOUNT)?;
    let old = CONTAINERS
        .lock()
        .get_or_insert_with(RBTree::new)
        .insert(node);

    // There is none. Drop it after the lock anyway.
    drop(old);
    Ok(())
}

/// Removes the container of `data`, and returns it.
pub(crate) fn remove(data: *mut c_void) -> Option<Arc<Container>> {
    let number = Number::of_data(data)?;
    let node = CONTAINERS.lock().as_mut()?.remove_node(&number);

    node.map(|node| node.to_key_value().1)
}

/// The container of `data`, if it exists.
pub(crate) fn find(data: *mut c_void) -> Option<Arc<Container>> {
    let number = Number::of_data(data)?;

    CONTAINERS.lock().as_ref()?.get(&number).cloned()
}

/// The container with the lowest number from `number` on.
pub(super) fn find_from(number: Number) -> Option<Arc<Container>> {
    let containers = CONTAINERS.lock();
    let cursor = containers.as_ref()?.cursor_lower_bound(&number)?;

    Some(cursor.current().1.clone())
}
