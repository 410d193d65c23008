// SPDX-License-Identifier: GPL-2.0

//! Reference counting.

pub use std::sync::Arc;
