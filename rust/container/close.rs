// SPDX-License-Identifier: GPL-2.0

//! The end of a container.

use kernel::prelude::*;

use super::{
    Container,
    State,
    Tools, //
};

impl Container {
    /// Empties it for good. Whoever still has a reference to it finds it closed.
    pub(crate) fn close(&self) {
        self.at_once(|state| {
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
    pub(crate) fn with_tools<R>(&self, work: impl FnOnce(&mut Tools) -> Result<R>) -> Result<R> {
        let kept = self.tools.lock().take();
        let mut tools = match kept {
            Some(tools) => tools,
            None => KBox::new(Tools::new()?, GFP_KERNEL_ACCOUNT)?,
        };
        let result = work(&mut tools);
        let spare = self.tools.lock().replace(tools);

        drop(spare);
        result
    }

    /// Runs `work`, which can not fail, and settles the accounts of the mappings that went.
    pub(crate) fn at_once<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, gone) = {
            let mut state = self.state.lock();
            let result = work(&mut state);
            (result, state.take_gone())
        };

        drop(gone);
        result
    }
}
