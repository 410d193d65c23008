// SPDX-License-Identifier: GPL-2.0

//! Closes a container, and runs work with its state or buffers.

use kernel::prelude::*;

use super::{
    CallScratch,
    Container,
    State, //
};

impl Container {
    /// Removes all mappings and domains, and closes the container for calls in progress. Sleeps.
    /// Cannot fail.
    pub(crate) fn close(&self) {
        self.with_state(|state| {
            state.unmap_at_end();
            state.domains = KVec::new();
            state.hook = None;
            state.event = None;
            state.keep_reserve();
            // INVARIANT: There is no domain. [`Container::lock`] fails from now on, and VFIO
            // attaches no group to a released container.
            state.closed = true;
        });
    }

    /// Calls `work` with buffers of its own. Sleeps. Fails as `work`, and with `ENOMEM`.
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

    /// Calls `work` with the state locked, then drops the mappings that it removed. Sleeps; not
    /// killable.
    pub(super) fn with_state<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, gone) = {
            let mut state = self.state.lock();
            let result = work(&mut state);
            (result, state.take_removed())
        };

        drop(gone);
        result
    }
}
