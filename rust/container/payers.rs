// SPDX-License-Identifier: GPL-2.0

//! Who pays for joined mappings: one account for each process, whatever it maps.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::mm::Locked;

/// The accounts of processes that joined mappings are of. Some may be of no use any more.
pub(crate) struct Payers(KVec<Arc<Locked>>);

impl Payers {
    /// None.
    pub(crate) fn new() -> Self {
        Self(KVec::new())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, locked: &Arc<Locked>) -> bool {
        self.0.iter().any(|known| Arc::ptr_eq(known, locked))
    }

    /// The account of the current process, if it has one.
    pub(crate) fn current(&self) -> Option<&Arc<Locked>> {
        self.0.iter().find(|locked| locked.pays_for_current())
    }

    /// The same; `new`, which is its own, if it had none. Those that pay for nothing go to `idle`.
    pub(super) fn current_or(&mut self, new: Arc<Locked>, idle: &mut Self) -> Result<Arc<Locked>> {
        if let Some(known) = self.current() {
            return Ok(known.clone());
        }
        let mut kept = KVec::with_capacity(self.0.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;

        kept.push(new.clone(), GFP_KERNEL_ACCOUNT)?;
        for known in &self.0 {
            if known.pays() {
                kept.push(known.clone(), GFP_KERNEL_ACCOUNT)?;
            }
        }
        idle.0 = core::mem::replace(&mut self.0, kept);
        Ok(new)
    }

    /// Uncharges what they have released. Takes mmap_lock.
    pub(super) fn settle(&self) {
        for payer in &self.0 {
            payer.settle();
        }
    }

    /// The account at this place in the list.
    pub(crate) fn at(&self, index: usize) -> Option<Arc<Locked>> {
        self.0.get(index).cloned()
    }
}
