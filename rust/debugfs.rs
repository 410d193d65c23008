// SPDX-License-Identifier: GPL-2.0

//! What debugfs shows of a container: see `debugfs.c`.

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

/// Shows a container, until [`hide`].
pub(crate) fn show(container: &Container) {
    // SAFETY: It hands back what it is given and does nothing else with it.
    unsafe { bindings::pgsize_debug_show(container.number.get(), container.number.to_data()) };
}

/// Shows it no more. Waits for who reads, so no lock may be held that reading takes.
pub(crate) fn hide(container: &Container) {
    // SAFETY: It has no requirements.
    unsafe { bindings::pgsize_debug_hide(container.number.get()) };
}

/// The binary logarithm of the smallest leaf's size.
const PAGE_LG2: u32 = PAGE_BYTES.trailing_zeros();

/// How often it is tried, a millisecond apart, before a container is said to be busy.
const TRIES: usize = 100;

/// Calls `show` with what the files of `debugfs.c` are called with.
///
/// # Safety
///
/// `seq` is valid, and of the caller alone.
unsafe fn shown(
    seq: *mut bindings::seq_file,
    container: *mut c_void,
    show: impl FnOnce(&SeqFile, &State) -> Result,
) -> c_int {
    // SAFETY: By the requirement.
    let seq = unsafe { SeqFile::from_raw(seq) };

    from_result(|| {
        let container = registry::find(container).ok_or(ENODEV)?;

        // A reader does not wait for what a VMM has under way, but for what is over in a moment.
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

/// A line for each segment: first and last address, leaf sizes, and how it follows the RMP.
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
        for segment in state.policy.segments(IovaRange::ALL) {
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

/// A line for each domain and leaf size: the domain's number, the size, and how many there are.
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

/// How many leaves of each size, by its binary logarithm, a domain has; none if it can not be read.
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
                // A leaf may go on behind the piece.
                seen = seen.max(run.range.last());
            }
            left = todo.behind(seen);
            cond_resched_killable()?;
        }
    }
    Ok(counts)
}

/// What `VFIO_PGSIZE_GET_STATS` answers, a line each.
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
        Ok(())
    };

    // SAFETY: By the requirement.
    unsafe { shown(seq, container, show) }
}
