// SPDX-License-Identifier: GPL-2.0

//! Which failures of following the RMP the log has been told of.

/// Counters as of the last warning.
#[derive(Default)]
pub(super) struct Warned {
    pub(super) fallbacks: u64,
    pub(super) mismatches: u64,
}
