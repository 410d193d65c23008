// SPDX-License-Identifier: GPL-2.0

//! The edge to the kernel: what is C, and what any module might want of it.
//!
//! Bindings, integers, points at which others run, eventfds, trace events, the module's parameters, and
//! what the test build has in addition. Nothing here knows what an IOMMU is.

#[allow(unsafe_code)]
pub(crate) mod bindings;
pub(crate) mod eventfd;
pub(crate) mod killable;
pub(crate) mod num;
pub(crate) mod sched;
pub(crate) mod testing;
pub(crate) mod trace;
