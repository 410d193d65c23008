// SPDX-License-Identifier: GPL-2.0

//! The interface to the kernel's C code, for all other layers.
//!
//! Bindings, integer conversions, scheduling points, eventfds, trace events, module parameters, limits
//! of warnings, and the gates of the test build. Nothing here depends on IOMMUs.

#[allow(unsafe_code)]
pub(crate) mod bindings;
pub(crate) mod eventfd;
pub(crate) mod killable;
pub(crate) mod num;
pub(crate) mod sched;
pub(crate) mod testing;
pub(crate) mod trace;
pub(crate) mod warning;
