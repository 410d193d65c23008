// SPDX-License-Identifier: GPL-2.0

//! The kernel's red-black tree, whose nodes are allocated in advance.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use crate::alloc::{
    allocate,
    Flags, //
};
use crate::error::Result;

pub struct RBTree<K, V>(BTreeMap<K, V>);

pub struct RBTreeNode<K, V>(K, V);

pub struct RBTreeNodeReservation<K, V>(PhantomData<(K, V)>);

pub struct Cursor<'a, K, V> {
    tree: &'a BTreeMap<K, V>,
    current: (&'a K, &'a V),
}

impl<K: Ord, V> RBTree<K, V> {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Returns the old node with the same key.
    pub fn insert(&mut self, node: RBTreeNode<K, V>) -> Option<RBTreeNode<K, V>>
    where
        K: Clone,
    {
        let RBTreeNode(key, value) = node;
        let old = self.0.insert(key.clone(), value)?;

        Some(RBTreeNode(key, old))
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    pub fn values(&self) -> impl Iterator<Item = &'_ V> {
        self.0.values()
    }

    pub fn remove_node(&mut self, key: &K) -> Option<RBTreeNode<K, V>> {
        let (key, value) = self.0.remove_entry(key)?;

        Some(RBTreeNode(key, value))
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    pub fn cursor_lower_bound(&self, key: &K) -> Option<Cursor<'_, K, V>> {
        let current = self.0.range(key..).next()?;

        Some(Cursor {
            tree: &self.0,
            current,
        })
    }

    pub fn cursor_back(&self) -> Option<Cursor<'_, K, V>> {
        let current = self.0.last_key_value()?;

        Some(Cursor {
            tree: &self.0,
            current,
        })
    }
}

impl<K: Ord, V> Cursor<'_, K, V> {
    pub fn current(&self) -> (&K, &V) {
        self.current
    }

    pub fn peek_prev(&self) -> Option<(&K, &V)> {
        self.tree.range(..self.current.0).next_back()
    }
}

impl<K, V> RBTreeNode<K, V> {
    pub fn into_reservation(self) -> RBTreeNodeReservation<K, V> {
        RBTreeNodeReservation(PhantomData)
    }
}

impl<K, V> RBTreeNodeReservation<K, V> {
    pub fn new(_: Flags) -> Result<Self> {
        allocate()?;
        Ok(Self(PhantomData))
    }

    pub fn into_node(self, key: K, value: V) -> RBTreeNode<K, V> {
        RBTreeNode(key, value)
    }
}
