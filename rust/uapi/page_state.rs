// SPDX-License-Identifier: GPL-2.0

//! `VFIO_PGSIZE_SET_STATE`: reads changes from userspace, some at a time.

use kernel::{
    prelude::*,
    transmute::FromBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use super::copy::{
    range,
    read,
    write, //
};
use crate::{
    container::{
        CallScratch,
        ChangeBuffers,
        Container,
        Kind,
        PageState,
        StateChange, //
    },
    sys::{
        bindings,
        num::to_usize,
        sched::cond_resched_killable, //
    }, //
};

/// Maximum number of changes that are read at once.
const CHANGES: usize = 512;

const SIZE: usize = size_of::<bindings::vfio_pgsize_state>();

/// Makes the changes of a request. Stores the number of changes that it made, also on failure.
pub(crate) fn set_state(container: &Container, user: UserPtr) -> Result {
    let mut request = read(user, |set: &bindings::vfio_pgsize_set_state| set.argsz)?;

    if container.kind != Kind::Pgsize {
        return Err(ENOTTY);
    }
    if request.flags != 0 || request.reserved != 0 || request.nr == 0 {
        return Err(EINVAL);
    }
    let (done, result) = container
        .with_call_scratch(|call_scratch| Ok(make_changes(container, &request, call_scratch)))?;

    request.nr = u32::try_from(done)?;
    write(user, &request)?;
    result
}

/// Reads and makes changes. Returns how many were made, and the error of the next one.
fn make_changes(
    container: &Container,
    request: &bindings::vfio_pgsize_set_state,
    call_scratch: &mut CallScratch,
) -> (usize, Result) {
    let number = to_usize(request.nr.into());
    let room = number.min(CHANGES);
    let CallScratch { pins, changes } = call_scratch;
    let ChangeBuffers { bytes, changes } = changes;
    let mut done = 0usize;
    let mut result = Ok(());

    while result.is_ok() && done < number {
        let wanted = room.min(number.saturating_sub(done));
        // Cannot overflow: the numbers have 32 bits.
        let place = to_usize(request.changes).wrapping_add(done.wrapping_mul(SIZE));

        bytes.clear();
        changes.clear();
        let readable = read_changes(place, wanted, bytes);
        let good = check_changes(bytes, changes).and(readable);
        let (made, end) = container.set_state(changes, pins);

        done = done.saturating_add(made);
        // An invalid change fails only after the changes before it are made.
        result = end.and(good);
        if result.is_ok() && done < number {
            result = cond_resched_killable();
        }
    }
    (done, result)
}

/// Reads `wanted` changes at `place`, up to the first one that cannot be read. Fails with its
/// error.
fn read_changes(place: usize, wanted: usize, bytes: &mut KVVec<u8>) -> Result {
    let mut read = |place, wanted: usize| {
        UserSlice::new(UserPtr::from_addr(place), wanted.wrapping_mul(SIZE))
            .read_all(bytes, GFP_KERNEL_ACCOUNT)
    };

    match read(place, wanted) {
        // Read one by one, up to the first one that cannot be read.
        Err(error) if error == EFAULT => {
            (0..wanted).try_for_each(|index| read(place.wrapping_add(index.wrapping_mul(SIZE)), 1))
        }
        result => result,
    }
}

/// Converts changes, up to the first invalid one. Fails with its error.
fn check_changes(bytes: &[u8], changes: &mut KVVec<StateChange>) -> Result {
    for bytes in bytes.chunks_exact(SIZE) {
        let change = bindings::vfio_pgsize_state::from_bytes_copy(bytes).ok_or(EINVAL)?;
        let to = match change.state {
            bindings::VFIO_PGSIZE_STATE_PRIVATE => PageState::Private,
            bindings::VFIO_PGSIZE_STATE_SHARED => PageState::Shared,
            _ => return Err(EINVAL),
        };

        if change.reserved != 0 {
            return Err(EINVAL);
        }
        let range = range(change.iova, change.size)?;
        changes.push(StateChange { range, to }, GFP_KERNEL_ACCOUNT)?;
    }
    Ok(())
}

kernel::static_assert!(size_of::<bindings::vfio_pgsize_set_state>() == 24);

kernel::static_assert!(SIZE == 24);
