// SPDX-License-Identifier: GPL-2.0

//! Tests of the page-table core against an independent implementation of each format, a naive model
//! of the leaves, and memory that checks every store.

#[macro_use]
mod spec;

mod arena;
mod convert;
mod dirty;
mod encoding;
mod failure;
mod hardware;
mod iterate;
mod meddle;
mod merge;
mod model;
mod pages;
mod random;
mod reshape;
mod second_stage;
mod units;
mod world;
