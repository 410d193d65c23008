// SPDX-License-Identifier: GPL-2.0

//! Files of containers in debugfs: see `debugfs.c`.

#![allow(unsafe_code)]

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
        State, //
    },
    iommu::PIECE,
    pgtable::{
        first_piece,
        IovaRange,
        PAGE_BYTES, //
    },
    rmp::Domain,
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

/// Calls `show` with the arguments of a file of `debugfs.c`, and the state of the container.
///
/// # Safety
///
/// `seq` is valid and has no other user.
unsafe fn shown(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
    show: impl FnOnce(&SeqFile, &State) -> Result,
) -> c_int {
    // SAFETY: By the requirement.
    let seq = unsafe { SeqFile::from_raw(seq) };

    from_result(|| {
        let container = registry::find(container).ok_or(ENODEV)?;

        // Wait for short operations only: a VMM can make long ones last as long as it wants.
        for _ in 0..TRIES {
            if let Some(state) = container.try_lock() {
                return show(seq, &*state?).map(|()| 0);
            }
            fsleep(Delta::from_millis(1));
        }
        seq_print!(seq, "busy\n");
        Ok(0)
    })
}

/// One line per segment: first address, last address, leaf sizes, RMP flags.
///
/// # Safety
///
/// As for [`shown`].
#[no_mangle]
unsafe extern "C" fn pgsize_debug_policy(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
) -> c_int {
    let show = |seq: &SeqFile, state: &State| {
        for segment in state.chosen_policy().segments(IovaRange::ALL) {
            seq_print!(
                seq,
                "{:#x} {:#x} {:#x}{}{}\n",
                segment.range.start().get(),
                segment.range.last().get(),
                segment.rule.sizes.bits(),
                if segment.rule.split { " split" } else { "" },
                if segment.rule.merge { " merge" } else { "" },
            );
        }
        Ok(())
    };

    // SAFETY: By the requirement.
    unsafe { shown(seq, container, show) }
}

/// One line per domain and leaf size: number of the domain, size, number of leaves.
///
/// # Safety
///
/// As for [`shown`].
#[no_mangle]
unsafe extern "C" fn pgsize_debug_leaves(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
) -> c_int {
    let show = |seq: &SeqFile, state: &State| {
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
    let show = |seq: &SeqFile, state: &State| {
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
