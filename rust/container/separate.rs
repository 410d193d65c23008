// SPDX-License-Identifier: GPL-2.0

//! Makes pieces of joined mappings mappings of their own: emulated devices and `VFIO_UPDATE_VADDR` work
//! on single mappings.

use kernel::prelude::*;

use super::{
    joined_entry::{
        Grain,
        Part, //
    },
    mapping::{
        Mapping,
        NodeReservation, //
    },
    unmap::PIECE_SIZES,
    State, //
};
use crate::{
    pgtable::IovaRange,
    sys::sched::{
        cond_resched,
        cond_resched_killable, //
    }, //
};

impl State {
    /// Makes each piece in `range`, whose ends no piece crosses, a mapping of its own.
    ///
    /// Fails with `ENOSPC` if there are too many mappings, `EINTR` on a fatal signal, and as
    /// [`State::split_boundaries`]. All pieces are joined then.
    pub(super) fn separate(&mut self, range: IovaRange) -> Result {
        let mut avail = self.avail;
        let mut reservations = KVVec::new();
        let mut left = Some(range);

        while let Some(piece) = self.next_piece(left) {
            avail = avail.checked_sub(1).ok_or(ENOSPC)?;
            reservations.push(NodeReservation::new()?, GFP_KERNEL_ACCOUNT)?;
            left = range.behind(piece.range.last());
            cond_resched_killable()?;
        }
        if reservations.is_empty() {
            return Ok(());
        }
        let result = self.split_pieces(range);
        if result.is_err() {
            self.merge_pieces(range);
            return result;
        }

        // Nothing fails from here on.
        left = Some(range);
        for reservation in reservations {
            let Some(piece) = self.next_piece(left) else {
                break;
            };
            left = range.behind(piece.range.last());
            self.removed.take_joined(&mut self.mappings, &piece);
            // INVARIANT: No leaf crosses its ends.
            self.mappings.insert(reservation, Mapping::from(piece));
            cond_resched();
        }
        self.avail = avail;
        Ok(())
    }

    fn next_piece(&self, range: Option<IovaRange>) -> Option<Part> {
        self.mappings.joined.next_in(range?, Grain::Pieces)
    }

    /// Splits leaves that cross the ends of pieces in `range`.
    fn split_pieces(&mut self, range: IovaRange) -> Result {
        let mut left = Some(range);

        while let Some(piece) = self.next_piece(left) {
            self.split_boundaries(piece.range, PIECE_SIZES)?;
            left = range.behind(piece.range.last());
            cond_resched_killable()?;
        }
        Ok(())
    }

    /// Merges leaves of joined mappings in `range`.
    fn merge_pieces(&mut self, range: IovaRange) {
        let mut left = Some(range);

        while let Some(piece) = self.next_piece(left) {
            self.merge_joined_block(piece.range.start());
            left = range.behind(piece.range.last());
            cond_resched();
        }
    }
}
