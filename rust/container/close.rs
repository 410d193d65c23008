// SPDX-License-Identifier: GPL-2.0

//! The end of a container.

use kernel::prelude::*;

use super::{
    CallScratch,
    Container,
    State, //
};

impl Container {
    /// Empties it for good. Whoever still has a reference to it finds it closed.
    pub(crate) fn close(&self) {
        self.with_state(|state| {
            state.unmap_at_end();
            state.domains = KVec::new();
            state.hook = None;
            state.event = None;
            state.keep_reserve();
            // INVARIANT: The domains are gone. [`Container::lock`] lets nobody in any more, and VFIO
            // attaches no group to what it has released.
            state.closed = true;
        });
    }

    /// Runs `work` with tools of its own.
    pub(crate) fn with_call_scratch<R>(
        &self,
        work: impl FnOnce(&mut CallScratch) -> Result<R>,
    ) -> Result<R> {
        let kept = self.call_scratch.lock().take();
        let mut call_scratch = match kept {
            Some(call_scratch) => call_scratch,
            None => KBox::new(CallScratch::new()?, GFP_KERNEL_ACCOUNT)?,
        };
        let result = work(&mut call_scratch);
        let spare = self.call_scratch.lock().replace(call_scratch);

        drop(spare);
        result
    }

    /// Runs `work`, which can not fail, and settles the accounts of the mappings that went.
    pub(crate) fn with_state<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, gone) = {
            let mut state = self.state.lock();
            let result = work(&mut state);
            (result, state.take_removed())
        };

        drop(gone);
        result
    }
}
