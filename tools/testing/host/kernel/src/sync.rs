// SPDX-License-Identifier: GPL-2.0

//! What several own.

pub use std::sync::Arc;
