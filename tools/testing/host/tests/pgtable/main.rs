// SPDX-License-Identifier: GPL-2.0

//! Tests of the page-table core against an independent reading of the format, a naive model of
//! what leaves ought to be, and memory that looks at every store.

mod arena;
mod convert;
mod encoding;
mod failure;
mod hardware;
mod iterate;
mod meddle;
mod model;
mod pages;
mod random;
mod reshape;
mod spec;
mod units;
mod world;
