// SPDX-License-Identifier: GPL-2.0

//! `VFIO_PGSIZE_SET_STATE`: changes of userspace, read some at a time.

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceReader, //
    }, //
};

use super::{
    range,
    read,
    write, //
};
use crate::{
    bindings,
    container::Container,
    num::to_usize,
    state::{
        PageState,
        StateChange, //
    }, //
};

/// Changes that are read, and then made, at once.
const CHANGES: usize = 512;

pub(super) fn set_state(container: &Container, user: UserPtr) -> Result {
    let mut request = read(user, |set: &bindings::vfio_pgsize_set_state| set.argsz)?;

    if !container.extended {
        return Err(ENOTTY);
    }
    if request.flags != 0 || request.reserved != 0 || request.nr == 0 {
        return Err(EINVAL);
    }
    let number = to_usize(request.nr.into());
    let size = size_of::<bindings::vfio_pgsize_state>();
    let place = UserPtr::from_addr(to_usize(request.changes));
    // Cannot overflow: both are of 32 bits.
    let mut reader = UserSlice::new(place, number.wrapping_mul(size)).reader();
    let mut changes = KVVec::with_capacity(number.min(CHANGES), GFP_KERNEL_ACCOUNT)?;
    let mut done = 0usize;
    let mut result = Ok(());

    while result.is_ok() && done < number {
        let wanted = CHANGES.min(number.saturating_sub(done));
        let good = read_changes(&mut reader, wanted, &mut changes);
        let (made, end) = container.state.lock().set_state(&changes);

        done = done.saturating_add(made);
        // What is wrong with a change comes to light when those before it are done.
        result = end.and(good);
    }
    request.nr = u32::try_from(done)?;
    write(user, &request)?;
    result
}

/// Reads `wanted` changes, or up to one that is wrong.
fn read_changes(
    reader: &mut UserSliceReader,
    wanted: usize,
    changes: &mut KVVec<StateChange>,
) -> Result {
    changes.clear();
    for _ in 0..wanted {
        let change = reader.read::<bindings::vfio_pgsize_state>()?;
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
kernel::static_assert!(size_of::<bindings::vfio_pgsize_state>() == 24);
