// SPDX-License-Identifier: GPL-2.0

//! Tests of code that is arithmetic on ranges, against naive models that know each address.

mod cells;
mod joined;
mod mapping;
mod pieces;
mod policy;
mod range;
mod reach;
mod windows;

use kernel::alloc::with_allocations;
use kernel::prelude::*;

/// Calls `work` with 0, 1, 2 ... allocations that succeed, up to `most`, until it does not fail.
/// Calls `after_failure` after each failure.
fn until_memory_suffices<S, R>(
    most: usize,
    mut start: impl FnMut() -> S,
    mut work: impl FnMut(&mut S) -> Result<R>,
    mut after_failure: impl FnMut(&S),
) -> (S, Result<R>) {
    for count in 0..=most {
        let mut state = start();
        let result = with_allocations(count, || work(&mut state));
        if !matches!(result, Err(ENOMEM)) {
            return (state, result);
        }
        after_failure(&state);
    }
    panic!("{most} allocations are not enough");
}
