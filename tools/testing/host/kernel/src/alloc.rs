// SPDX-License-Identifier: GPL-2.0

//! Vectors whose allocations can be made to fail.

use std::cell::Cell;
use std::ops::{
    Deref,
    DerefMut, //
};

/// No memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocError;

#[derive(Debug, Clone, Copy)]
pub struct Flags(());

pub const GFP_KERNEL_ACCOUNT: Flags = Flags(());

thread_local! {
    /// Number of allocations of this thread that succeed before all fail; `None`: all succeed.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Calls `work`. The first `count` allocations in it succeed, and all later ones fail.
pub fn with_allocations<R>(count: usize, work: impl FnOnce() -> R) -> R {
    struct Plenty;

    impl Drop for Plenty {
        fn drop(&mut self) {
            LEFT.set(None);
        }
    }

    LEFT.set(Some(count));
    let _plenty = Plenty;
    work()
}

/// Counts an allocation, or fails.
pub(crate) fn allocate() -> Result<(), AllocError> {
    match LEFT.get() {
        Some(0) => return Err(AllocError),
        Some(left) => LEFT.set(Some(left - 1)),
        None => {}
    }
    Ok(())
}

/// As the kernel's: only fallible calls grow it, and it allocates only when it is full.
pub struct KVec<T>(Vec<T>);

pub type KVVec<T> = KVec<T>;

impl<T> KVec<T> {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut vec = Self::new();

        vec.reserve(capacity, flags)?;
        Ok(vec)
    }

    pub fn from_elem(value: T, count: usize, flags: Flags) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let mut vec = Self::with_capacity(count, flags)?;

        vec.0.resize(count, value);
        Ok(vec)
    }

    pub fn reserve(&mut self, additional: usize, _: Flags) -> Result<(), AllocError> {
        if self.0.capacity() - self.0.len() < additional {
            allocate()?;
            self.0.reserve(additional);
        }
        Ok(())
    }

    pub fn push(&mut self, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(value);
        Ok(())
    }

    pub fn extend_from_slice(&mut self, other: &[T], flags: Flags) -> Result<(), AllocError>
    where
        T: Clone,
    {
        self.reserve(other.len(), flags)?;
        self.0.extend_from_slice(other);
        Ok(())
    }
}

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
