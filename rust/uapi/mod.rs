// SPDX-License-Identifier: GPL-2.0

//! ioctls: checks the arguments, converts them to typed requests, and writes the results.
//!
//! `include/uapi/linux/vfio_pgsize.h` documents the calls.

mod copy;
mod dirty;
mod info;
mod page_state;

use kernel::{
    prelude::*,
    transmute::AsBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use self::copy::{
    range,
    read,
    read_at,
    write, //
};
use crate::{
    container::{
        stats,
        Container,
        Crossing,
        Kind,
        MapRequest,
        QueryOptions,
        Run,
        Scope,
        Wanted, //
    },
    iommu::Access,
    mm::UserAddr,
    pgtable::{
        IovaRange,
        PageSizes,
        PAGE_BYTES, //
    },
    policy::Rule,
    rmp::check_missed,
    sys::{
        bindings,
        eventfd::Event,
        num::to_usize,
        trace, //
    }, //
};

/// Maximum number of runs of one QUERY.
const MAX_RUNS: u32 = 1024;

/// The result of `VFIO_CHECK_EXTENSION` for `VFIO_PGSIZE_IOMMU`.
const VERSION: c_long = bindings::VFIO_PGSIZE_VERSION as c_long;

/// The size that GET_POLICY returns for all 2^64 bytes.
const MOST_BYTES: u64 = !(PAGE_BYTES - 1);

/// Executes an ioctl. Sleeps. Returns a value of 0 or more, or fails as the UAPI header says, with
/// `ENOTTY` for an unknown command.
pub(crate) fn ioctl(container: &Container, command: u32, arg: usize) -> Result<c_long> {
    let user = UserPtr::from_addr(arg);

    match command {
        bindings::VFIO_CHECK_EXTENSION => return check_extension(container, arg),
        bindings::VFIO_IOMMU_GET_INFO => info::get_info(container, user)?,
        bindings::VFIO_IOMMU_MAP_DMA => map_dma(container, user)?,
        bindings::VFIO_IOMMU_UNMAP_DMA => unmap_dma(container, user)?,
        bindings::VFIO_IOMMU_DIRTY_PAGES => dirty::dirty_pages(container, user)?,
        bindings::VFIO_PGSIZE_GET_POLICY => get_policy(container, user)?,
        bindings::VFIO_PGSIZE_SET_POLICY => set_policy(container, user)?,
        bindings::VFIO_PGSIZE_QUERY => query(container, user)?,
        bindings::VFIO_PGSIZE_GET_STATS => get_stats(container, user)?,
        bindings::VFIO_PGSIZE_SET_EVENT => set_event(container, user)?,
        bindings::VFIO_PGSIZE_SET_STATE => page_state::set_state(container, user)?,
        _ => return Err(ENOTTY),
    }
    Ok(0)
}

/// The result of `VFIO_CHECK_EXTENSION` where it does not depend on the container. 0: not
/// supported. `serves`: whether the module serves this IOMMU type of type1's.
pub(crate) fn extension(number: usize, serves: impl Fn(usize) -> bool) -> c_long {
    match u32::try_from(number) {
        Ok(bindings::VFIO_PGSIZE_IOMMU) => VERSION,
        Ok(bindings::VFIO_TYPE1_IOMMU | bindings::VFIO_TYPE1v2_IOMMU) => serves(number).into(),
        Ok(bindings::VFIO_UNMAP_ALL) => 1,
        _ => 0,
    }
}

fn check_extension(container: &Container, number: usize) -> Result<c_long> {
    if number == to_usize(bindings::VFIO_DMA_CC_IOMMU.into()) {
        let state = container.lock()?;
        return Ok(state
            .domains
            .iter()
            .all(|domain| domain.is_coherent())
            .into());
    }
    // As type1 after `VFIO_SET_IOMMU`, for all its types.
    if number == to_usize(bindings::VFIO_UPDATE_VADDR.into()) {
        return Ok(container.lock()?.check_moves().is_ok().into());
    }
    Ok(extension(number, |_| true))
}

fn map_dma(container: &Container, user: UserPtr) -> Result {
    let request = read(user, |map: &bindings::vfio_iommu_type1_dma_map| map.argsz)?;
    let access = Access {
        read: request.flags & bindings::VFIO_DMA_MAP_FLAG_READ != 0,
        write: request.flags & bindings::VFIO_DMA_MAP_FLAG_WRITE != 0,
    };
    let stateful = request.flags & bindings::VFIO_PGSIZE_MAP_STATEFUL != 0;
    let shared = request.flags & bindings::VFIO_PGSIZE_MAP_SHARED != 0;
    let moves = request.flags & bindings::VFIO_DMA_MAP_FLAG_VADDR != 0;
    let joined = request.flags & bindings::VFIO_PGSIZE_MAP_JOINED != 0;
    let mut known = bindings::VFIO_DMA_MAP_FLAG_READ
        | bindings::VFIO_DMA_MAP_FLAG_WRITE
        | bindings::VFIO_DMA_MAP_FLAG_VADDR;

    if container.kind == Kind::Pgsize {
        known |= bindings::VFIO_PGSIZE_MAP_STATEFUL
            | bindings::VFIO_PGSIZE_MAP_SHARED
            | bindings::VFIO_PGSIZE_MAP_JOINED;
    }
    let has_wrong_flags = shared && !stateful || stateful && (joined || moves) || joined && moves;
    if request.flags & !known != 0 || has_wrong_flags {
        return Err(EINVAL);
    }
    // As type1, check for overflow before alignment.
    let more = request.size.checked_sub(1).ok_or(EINVAL)?;
    request.iova.checked_add(more).ok_or(EOVERFLOW)?;
    request.vaddr.checked_add(more).ok_or(EOVERFLOW)?;
    if (access.read || access.write) == moves || request.vaddr & (PAGE_BYTES - 1) != 0 {
        return Err(EINVAL);
    }
    let range = range(request.iova, request.size)?;
    let memory = UserAddr::new(to_usize(request.vaddr));

    if moves {
        return container.update_vaddr(range, memory);
    }
    let request = MapRequest {
        range,
        memory,
        access,
        stateful,
        shared: shared || !stateful,
        joined: joined || container.joins,
    };

    container.map(&request)
}

fn unmap_dma(container: &Container, user: UserPtr) -> Result {
    let mut request = read(user, |unmap: &bindings::vfio_iommu_type1_dma_unmap| {
        unmap.argsz
    })?;

    const ALL: u32 = bindings::VFIO_DMA_UNMAP_FLAG_ALL;
    const VADDR: u32 = bindings::VFIO_DMA_UNMAP_FLAG_VADDR;
    if request.flags == bindings::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP {
        request.size = dirty::unmap(container, user, &request)?;
        return write(user, &request);
    }
    if request.flags & !(ALL | VADDR) == 0 && request.flags & VADDR != 0 {
        // In type1's order.
        container.lock()?.check_moves()?;
    }
    let (range, crossing) = match request.flags & !VADDR {
        0 => (
            range(request.iova, request.size)?,
            container.kind.crossing(),
        ),
        ALL if request.iova == 0 && request.size == 0 => (IovaRange::ALL, Crossing::Refuse),
        _ => return Err(EINVAL),
    };

    request.size = if request.flags & VADDR != 0 {
        container.invalidate_vaddr(range, crossing)?
    } else {
        container.unmap(range, crossing)?
    };
    write(user, &request)
}

fn get_policy(container: &Container, user: UserPtr) -> Result {
    let mut request = read(user, |policy: &bindings::vfio_pgsize_policy| policy.argsz)?;

    if request.size != 0 || request.pgsizes != 0 {
        return Err(EINVAL);
    }
    match request.flags {
        0 if request.iova == 0 => {
            let rule = container.lock()?.chosen_policy().rule();
            request.flags |= flags_of(rule);
            request.pgsizes = rule.sizes.bits();
        }
        bindings::VFIO_PGSIZE_POLICY_TRACKING if request.iova == 0 => {
            request.pgsizes = container.lock()?.tracking_sizes().bits();
        }
        bindings::VFIO_PGSIZE_POLICY_RANGE => {
            let at = range(request.iova, PAGE_BYTES)?.start();
            let segment = container.lock()?.chosen_policy().at(at);
            let rest = segment.range.from(at).unwrap_or(segment.range);

            if segment.inherited {
                request.flags |= bindings::VFIO_PGSIZE_POLICY_INHERIT;
            }
            request.flags |= flags_of(segment.rule);
            request.size = rest.bytes().unwrap_or(MOST_BYTES);
            request.pgsizes = segment.rule.sizes.bits();
        }
        _ => return Err(EINVAL),
    }
    write(user, &request)
}

const SPLIT: u32 = bindings::VFIO_PGSIZE_POLICY_ON_SMASH_SPLIT;

const MERGE: u32 = bindings::VFIO_PGSIZE_POLICY_ON_WHOLE_MERGE;

/// The flags of a policy that follows the RMP as `rule`.
fn flags_of(rule: Rule) -> u32 {
    (if rule.split { SPLIT } else { 0 }) | (if rule.merge { MERGE } else { 0 })
}

fn set_policy(container: &Container, user: UserPtr) -> Result {
    const RANGE: u32 = bindings::VFIO_PGSIZE_POLICY_RANGE;
    const INHERIT: u32 = bindings::VFIO_PGSIZE_POLICY_INHERIT;
    const APPLY: u32 = bindings::VFIO_PGSIZE_POLICY_APPLY;
    const TRACKING: u32 = bindings::VFIO_PGSIZE_POLICY_TRACKING;

    let request = read(user, |policy: &bindings::vfio_pgsize_policy| policy.argsz)?;
    let rule = Rule {
        sizes: PageSizes::from_bits(request.pgsizes),
        split: request.flags & SPLIT != 0,
        merge: request.flags & MERGE != 0,
    };
    let follow = if request.flags & INHERIT == 0 {
        SPLIT | MERGE
    } else {
        0
    };
    let apply = request.flags & APPLY != 0;
    if request.flags & !APPLY == TRACKING {
        if request.iova != 0 || request.size != 0 {
            return Err(EINVAL);
        }
        return container.lock()?.set_tracking_sizes(rule.sizes, apply);
    }
    let scope = match request.flags & !(APPLY | follow) {
        0 if request.iova == 0 && request.size == 0 => Scope::Container(rule),
        RANGE => Scope::Range(range(request.iova, request.size)?, Some(rule)),
        flags if flags == RANGE | INHERIT && request.pgsizes == 0 => {
            Scope::Range(range(request.iova, request.size)?, None)
        }
        _ => return Err(EINVAL),
    };

    let mut state = container.lock()?;
    state.set_policy(scope, apply)?;
    trace::policy(state.follower.id, &request);
    Ok(())
}

fn query(container: &Container, user: UserPtr) -> Result {
    let mut request = read(user, |query: &bindings::vfio_pgsize_query| query.argsz)?;

    let wanted = match request.flags & !bindings::VFIO_PGSIZE_QUERY_RMP {
        0 => Wanted::Leaves,
        bindings::VFIO_PGSIZE_QUERY_MISMATCH => Wanted::Mismatches,
        bindings::VFIO_PGSIZE_QUERY_STATE => Wanted::State,
        _ => return Err(EINVAL),
    };

    let options = QueryOptions {
        wanted,
        rmp: request.flags & bindings::VFIO_PGSIZE_QUERY_RMP != 0,
        notify: true,
    };

    if request.nr == 0 {
        return Err(EINVAL);
    }
    let range = range(request.iova, request.size)?;
    let room = to_usize(request.nr.min(MAX_RUNS).into());
    let mut found = KVVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?;
    let mut runs = KVVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?;
    let domain = to_usize(request.domain.into());
    let left = container
        .lock()?
        .query(domain, range, options, &mut found)?;

    for run in &found {
        runs.push(report(run), GFP_KERNEL_ACCOUNT)?;
    }
    let place = UserPtr::from_addr(to_usize(request.runs));
    UserSlice::new(place, size_of_val(runs.as_slice()))
        .writer()
        .write_slice(AsBytes::as_bytes(runs.as_slice()))?;

    let end = request.iova.wrapping_add(request.size);
    request.iova = left.map_or(end, |left| left.start().get());
    request.size = left.and_then(IovaRange::bytes).unwrap_or(0);
    request.nr = u32::try_from(runs.len())?;
    write(user, &request)
}

/// The structure grew: a VMM built before that asks for less.
fn get_stats(container: &Container, user: UserPtr) -> Result {
    const LEAST: usize = core::mem::offset_of!(bindings::vfio_pgsize_stats, joined);
    let argsz: u32 = read_at(user, 0)?;
    let flags: u32 = read_at(user, size_of::<u32>())?;
    let size = to_usize(argsz.into()).min(size_of::<bindings::vfio_pgsize_stats>());

    if size < LEAST || flags != 0 {
        return Err(EINVAL);
    }
    check_missed();
    // A `let`, so that the lock is dropped before userspace is written to.
    let answer = bindings::vfio_pgsize_stats {
        argsz,
        ..stats(&*container.lock()?)
    };
    let bytes = answer.as_bytes().get(..size).ok_or(EINVAL)?;
    UserSlice::new(user, size).writer().write_slice(bytes)
}

fn set_event(container: &Container, user: UserPtr) -> Result {
    let request = read(user, |event: &bindings::vfio_pgsize_event| event.argsz)?;

    if request.flags != 0 || request.reserved != 0 {
        return Err(EINVAL);
    }
    let event = match request.fd {
        -1 => None,
        fd => Some(Event::of_fd(fd)?),
    };
    container.lock()?.event = event;
    Ok(())
}

/// Converts a run.
fn report(run: &Run) -> bindings::vfio_pgsize_run {
    bindings::vfio_pgsize_run {
        iova: run.range.start().get(),
        size: run.range.bytes().unwrap_or(MOST_BYTES),
        pgsize: run.size.map_or(0, |size| size.bytes()),
        flags: run.flags,
        reserved: 0,
    }
}

// The size of each structure is fixed: a client compiled with an older header passes fewer bytes.
kernel::static_assert!(size_of::<bindings::vfio_pgsize_policy>() == 32);

kernel::static_assert!(size_of::<bindings::vfio_pgsize_query>() == 40);

kernel::static_assert!(size_of::<bindings::vfio_pgsize_run>() == 32);

kernel::static_assert!(size_of::<bindings::vfio_pgsize_stats>() == 88);

kernel::static_assert!(size_of::<bindings::vfio_pgsize_event>() == 16);
