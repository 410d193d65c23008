// SPDX-License-Identifier: GPL-2.0

//! Tests of what is arithmetic on ranges against naive models, which know of each address by itself.

mod cells;
mod mapping;
mod policy;
mod range;
mod reach;
mod windows;

use kernel::alloc::with_allocations;
use kernel::prelude::*;

/// Does `work` with no allocation that succeeds, with one, and so on until memory suffices, which is
/// when there are `most`. `after_failure` is for what must hold each time that it did not.
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
