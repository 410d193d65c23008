// SPDX-License-Identifier: GPL-2.0

//! Files of containers in debugfs: see `debugfs.c`.

#![allow(unsafe_code)]

use core::ops::Deref;

use kernel::{
    error::from_result,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

use crate::{
    container::{
        registry,
        stats,
        Container,
        QueryOptions,
        State,
        Wanted, //
    },
    iommu::PIECE,
    pgtable::{
        first_piece,
        IovaRange,
        PAGE_BYTES, //
    },
    rmp::{
        Domain,
        RmpReader, //
    },
    sys::{
        bindings,
        sched::cond_resched_killable, //
    }, //
};

/// Creates the files of a container. Sleeps.
pub(crate) fn show(container: &Container) {
    // SAFETY: It does not dereference the pointer, and only passes it back.
    unsafe { bindings::pgsize_debug_show(container.number.get(), container.number.to_data()) };
}

/// Removes the files of a container. Waits for readers: no lock that a reader takes may be held.
pub(crate) fn hide(container: &Container) {
    // SAFETY: It has no requirements.
    unsafe { bindings::pgsize_debug_hide(container.number.get()) };
}

/// Binary logarithm of the smallest leaf size.
const PAGE_LG2: u32 = PAGE_BYTES.trailing_zeros();

/// Number of attempts to lock the container, one per millisecond, before the file says that it is
/// busy.
const TRIES: usize = 100;

/// Locks the state. Waits for short operations only: a VMM can make long ones last as long as it
/// wants. `None`: the container is busy. Fails with `EINVAL` if it is closed.
fn lock_soon(container: &Container) -> Result<Option<impl Deref<Target = State> + '_>> {
    for _ in 0..TRIES {
        if let Some(state) = container.try_lock() {
            return state.map(Some);
        }
        fsleep(Delta::from_millis(1));
    }
    Ok(None)
}

/// Calls `show` with the arguments of a file of `debugfs.c`, and the state of the container.
///
/// # Safety
///
/// `seq` is valid and has no other user.
unsafe fn shown(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
    show: impl FnOnce(&SeqFile, &Container, &State) -> Result,
) -> c_int {
    // SAFETY: By the requirement.
    let seq = unsafe { SeqFile::from_raw(seq) };

    from_result(|| {
        let container = registry::find(container).ok_or(ENODEV)?;

        match lock_soon(&container)? {
            Some(state) => show(seq, &container, &state)?,
            None => seq_print!(seq, "busy\n"),
        }
        Ok(0)
    })
}

/// A header, and one line per segment: first address, last address, leaf sizes, whether leaves follow
/// the RMP.
///
/// # Safety
///
/// As for [`shown`].
#[no_mangle]
unsafe extern "C" fn pgsize_debug_policy(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
) -> c_int {
    let show = |seq: &SeqFile, _: &Container, state: &State| {
        seq_print!(seq, "first last sizes follow\n");
        for segment in state.chosen_policy().segments(IovaRange::ALL) {
            seq_print!(
                seq,
                "{:#x} {:#x} {:#x} {}\n",
                segment.range.start().get(),
                segment.range.last().get(),
                segment.rule.sizes.bits(),
                match (segment.rule.split, segment.rule.merge) {
                    (true, true) => "split,merge",
                    (true, false) => "split",
                    _ => "no",
                },
            );
        }
        Ok(())
    };

    // SAFETY: By the requirement.
    unsafe { shown(seq, container, show) }
}

/// A header, and one line per domain and leaf size: number of the domain, size, number of leaves.
///
/// # Safety
///
/// As for [`shown`].
#[no_mangle]
unsafe extern "C" fn pgsize_debug_leaves(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
) -> c_int {
    let show = |seq: &SeqFile, _: &Container, state: &State| {
        seq_print!(seq, "domain size leaves\n");
        for (number, domain) in state.domains.iter().enumerate() {
            for (lg2, leaves) in (0_u32..).zip(count_leaves(state, domain)?) {
                if leaves != 0 {
                    let size = 1_u64.wrapping_shl(lg2);
                    seq_print!(seq, "{} {:#x} {}\n", number, size, leaves);
                }
            }
        }
        Ok(())
    };

    // SAFETY: By the requirement.
    unsafe { shown(seq, container, show) }
}

/// The number of leaves of a domain by the binary logarithm of their size; all 0 if the page table
/// cannot be read. Fails with `EINTR` on a fatal signal.
fn count_leaves(state: &State, domain: &Domain) -> Result<[u64; 64]> {
    let mut counts = [0_u64; 64];
    let Some(table) = domain.table() else {
        return Ok(counts);
    };

    for mapping in state.mappings.overlapping(IovaRange::ALL) {
        let mut left = Some(mapping.range);

        while let Some(todo) = left.and_then(|left| domain.skip_holes(left)) {
            let piece = first_piece(todo, PIECE);
            let mut seen = piece.last();

            for run in table.view().leaf_runs(piece) {
                let lg2 = run.size.bytes().trailing_zeros();
                let leaves = run.range.pages().wrapping_shr(lg2.wrapping_sub(PAGE_LG2));
                if let Some(count) = counts.get_mut(lg2 as usize) {
                    *count = count.wrapping_add(leaves);
                }
                // The leaf may extend beyond the piece.
                seen = seen.max(run.range.last());
            }
            left = todo.behind(seen);
            cond_resched_killable()?;
        }
    }
    Ok(counts)
}

/// One line per counter of `VFIO_PGSIZE_GET_STATS`.
///
/// # Safety
///
/// As for [`shown`].
#[no_mangle]
unsafe extern "C" fn pgsize_debug_counters(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
) -> c_int {
    let show = |seq: &SeqFile, _: &Container, state: &State| {
        let stats = stats(state);

        seq_print!(seq, "splits {}\n", stats.splits);
        seq_print!(seq, "merges {}\n", stats.merges);
        seq_print!(seq, "fallbacks {}\n", stats.fallbacks);
        seq_print!(seq, "repairs {}\n", stats.repairs);
        seq_print!(seq, "missed {}\n", stats.missed);
        seq_print!(seq, "mismatches {}\n", stats.mismatches);
        seq_print!(seq, "shared {}\n", stats.shared);
        seq_print!(seq, "stateful {}\n", stats.stateful);
        seq_print!(seq, "joined {}\n", stats.joined);
        seq_print!(seq, "joined_entries {}\n", stats.joined_entries);
        Ok(())
    };

    // SAFETY: By the requirement.
    unsafe { shown(seq, container, show) }
}

/// One line per property: PID, name of the process, type of the container; and per device: group,
/// domain, name.
///
/// # Safety
///
/// As for [`shown`].
#[no_mangle]
unsafe extern "C" fn pgsize_debug_owner(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
) -> c_int {
    let show = |seq: &SeqFile, container: &Container, state: &State| {
        let (command, exists) = container.owner.command();

        seq_print!(
            seq,
            "pid {}{}\n",
            container.owner.pid(),
            if exists { "" } else { " exited" },
        );
        seq_print!(seq, "command {}\n", command);
        seq_print!(seq, "type {}\n", container.kind.name());
        seq_print!(
            seq,
            "policy {}\n",
            if state.has_default { "default" } else { "set" },
        );
        state.each_group(|group, domain| {
            group.each_device(|device| {
                seq_print!(seq, "group {} ", group.number());
                match domain {
                    Some(domain) => seq_print!(seq, "domain {} ", domain),
                    None => seq_print!(seq, "emulated "),
                }
                seq_print!(seq, "device {}\n", device);
            });
        });
        Ok(())
    };

    // SAFETY: By the requirement.
    unsafe { shown(seq, container, show) }
}

/// Maximum number of runs that are read at once.
const RUNS: usize = 256;

/// A header, and one line per run of leaves that disagree with the RMP: number of the domain, first
/// address, bytes, size of each leaf.
///
/// # Safety
///
/// As for [`shown`].
#[no_mangle]
unsafe extern "C" fn pgsize_debug_mismatches(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
) -> c_int {
    // SAFETY: By the requirement.
    let seq = unsafe { SeqFile::from_raw(seq) };

    from_result(|| {
        seq_print!(seq, "domain iova bytes size\n");
        show_mismatches(seq, container)?;
        Ok(0)
    })
}

/// Looks for leaves that disagree with the RMP. Reading the RMP can take long, so it locks the container
/// for 1G at a time, and ends soon if the container goes, which waits for readers.
///
/// Fails with `ENODEV` if it is gone, and with `EOPNOTSUPP` if there is no RMP, or a page table cannot
/// be read.
fn show_mismatches(seq: &SeqFile, container: *mut c_void) -> Result {
    let options = QueryOptions {
        wanted: Wanted::Mismatches,
        rmp: false,
        notify: false,
    };
    let mut runs = KVVec::with_capacity(RUNS, GFP_KERNEL_ACCOUNT)?;
    let _reader = RmpReader::new()?;

    for domain in 0_usize.. {
        let mut left = Some(IovaRange::ALL);

        while let Some(todo) = left {
            let container = registry::find(container).ok_or(ENODEV)?;
            let Some(state) = lock_soon(&container)? else {
                seq_print!(seq, "busy\n");
                return Ok(());
            };
            if domain >= state.domains.len() {
                return Ok(());
            }
            let first = state.mappings.overlapping(todo).next();
            let Some(next) = first.and_then(|mapping| mapping.range.intersect(todo)) else {
                break;
            };
            let part = first_piece(next, PIECE);

            runs.clear();
            let rest = state.query(domain, part, options, &mut runs)?;
            drop(state);

            let mut seen = part.last();
            for run in &runs {
                seq_print!(
                    seq,
                    "{} {:#x} {:#x} {:#x}\n",
                    domain,
                    run.range.start().get(),
                    run.range.bytes().unwrap_or(0),
                    run.size.map_or(0, |size| size.bytes()),
                );
                // The leaf may extend beyond the piece.
                seen = seen.max(run.range.last());
            }
            left = match rest {
                Some(rest) => todo.from(rest.start()),
                None => todo.behind(seen),
            };
            cond_resched_killable()?;
        }
    }
    Ok(())
}
