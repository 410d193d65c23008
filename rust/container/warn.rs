// SPDX-License-Identifier: GPL-2.0

//! Warns of failures of following the RMP. The hook cannot say which process and devices are concerned,
//! so the worker does.

use core::sync::atomic::Ordering::Relaxed;

use kernel::{
    fmt,
    prelude::*,
    str::CString, //
};

use super::{
    Container,
    State, //
};
use crate::{
    rmp::Hook,
    sys::warning::Warning, //
};

impl Container {
    /// Warns of what has been counted since the last warning. Sleeps.
    pub(super) fn warn(&self, state: &mut State) {
        let stats = &state.follower.stats;
        let fallbacks = stats.fallbacks.load(Relaxed);
        let mismatches = stats.mismatches.load(Relaxed);
        let missed = state.hook.as_ref().map_or(0, Hook::unknown);
        let warned = &state.warned;

        // What is not allowed now is part of the next warning, if there is one.
        if fallbacks != warned.fallbacks && Warning::Fallback.is_allowed() {
            let number = fallbacks.wrapping_sub(warned.fallbacks);
            self.say(state, fmt!("leaves unmapped for lack of memory: {number}; DMA to them failed; raise reserve_tables"));
            state.warned.fallbacks = fallbacks;
        }
        if missed != 0 && Warning::Missed.is_allowed() {
            self.say(state, fmt!("changes of the RMP not reported: {missed}; DMA may have failed; remove other fprobes of psmash, rmp_make_private and rmp_make_shared"));
            if let Some(hook) = &mut state.hook {
                hook.know(missed);
            }
        }
        let warned = &state.warned;
        if mismatches != warned.mismatches && Warning::Mismatch.is_allowed() {
            let number = mismatches.wrapping_sub(warned.mismatches);
            let remedy = match state.hook {
                Some(_) => "",
                None => "; set a policy of 4K, or one that follows the RMP (default_follow)",
            };
            self.say(state, fmt!("findings of leaves that disagree with the RMP: {number}; DMA to them fails{remedy}"));
            state.warned.mismatches = mismatches;
        }
    }

    /// Logs `what` with the container, its process and its devices. Says less without memory.
    fn say(&self, state: &State, what: fmt::Arguments<'_>) {
        let (command, _) = self.owner.command();
        // printk() formats with interrupts off, where the devices cannot be listed.
        let devices = CString::try_from_fmt(fmt!("{}", DeviceList(state)));

        pr_warn!(
            "container {}, process {} ({}),{}: {}\n",
            self.number.get(),
            self.owner.pid(),
            command,
            devices.as_deref().unwrap_or(c" devices"),
            what,
        );
    }
}

/// Maximum number of devices in a warning.
const MAX_DEVICES: usize = 4;

/// The names of the devices, as text. Sleeps.
struct DeviceList<'s>(&'s State);

impl fmt::Display for DeviceList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = Ok(());
        let mut count = 0_usize;

        self.0.each_group(|group, _| {
            group.each_device(|device| {
                count = count.saturating_add(1);
                if result.is_ok() && count <= MAX_DEVICES {
                    result = f.write_str(" ").and_then(|()| fmt::Display::fmt(device, f));
                }
            });
        });
        result?;
        if count > MAX_DEVICES {
            f.write_str(" and more")?;
        }
        Ok(())
    }
}
