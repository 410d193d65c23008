// SPDX-License-Identifier: GPL-2.0

//! Which containers there are: VFIO, debugfs and the worker know them by number, never by pointer.
//!
//! VFIO calls ioctls with no lock held, with what it read of a container a while ago: by then that
//! may be gone, or be another backend's. A number is never used again, and whoever looks one up gets
//! a counted reference.

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
pub(super) fn find_from(number: Number) -> Option<Arc<Container>> {
    let containers = CONTAINERS.lock();
    let cursor = containers.as_ref()?.cursor_lower_bound(&number)?;

    Some(cursor.current().1.clone())
}
