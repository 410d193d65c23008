// SPDX-License-Identifier: GPL-2.0

//! Unmaps pieces of joined mappings: a few pages the quick way, or any range.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    crossing::Crossing,
    mapping::Mapping,
    page_state_quick::{
        is_small,
        Quick, //
    },
    Container,
    State, //
};
use crate::{
    mm::Locked,
    pgtable::{
        IovaRange,
        PAGE_BYTES, //
    },
    sys::{
        killable::lock_killable,
        sched::cond_resched, //
    }, //
};

impl Container {
    /// Unmaps a few pages of a joined mapping if that can be done quickly. `None`: it did nothing.
    ///
    /// Fails as [`Container::lock`].
    pub(super) fn unmap_quickly(
        &self,
        range: IovaRange,
        crossing: Crossing,
    ) -> Result<Option<u64>> {
        if !is_small(range) {
            return Ok(None);
        }
        let mut state = self.lock()?;
        let Some((pages, locked)) = state.unmap_piece_quickly(range, crossing) else {
            return Ok(None);
        };
        let removed = state.take_removed();

        drop(state);
        drop(removed);
        locked.settle();
        Ok(Some(pages.wrapping_mul(PAGE_BYTES)))
    }

    /// Uncharges what joined mappings have released. Takes mmap_lock. After a fatal signal the rest is
    /// uncharged later, or with the process.
    pub(super) fn settle_payers(&self) {
        let payer = |index| lock_killable(&self.state).ok()?.payers.at(index);
        let mut index = 0usize;

        while let Some(payer) = payer(index) {
            payer.settle();
            index = index.saturating_add(1);
        }
    }
}

impl State {
    /// Unmaps the pages of a joined mapping in `range`. Returns their number, and who was charged.
    fn unmap_piece_quickly(
        &mut self,
        range: IovaRange,
        crossing: Crossing,
    ) -> Option<(u64, Arc<Locked>)> {
        if self.claims.any_in(range) || self.mappings.first_in(range).is_some() {
            return None;
        }
        let whole = crossing != Crossing::Split;
        let (key, part) = self.mappings.joined.only_in(range, whole)?;
        let mapping = Mapping::from(part.clone());
        let mut quick = Quick::without_pins();
        let taken = self.take_quickly(&mapping, part.range, &mut quick);

        self.flush_quick(&mapping, &mut quick);
        if !taken {
            return None;
        }
        let pages = self
            .removed
            .take_joined_from(&mut self.mappings, key, part.range);
        Some((pages, part.locked))
    }

    /// Unmaps the pages of joined mappings in `range`, whose ends no leaf crosses. Returns the number of
    /// bytes.
    pub(super) fn unmap_joined(&mut self, range: IovaRange) -> u64 {
        let mut bytes = 0u64;
        let mut left = Some(range);

        while let Some(mapping) = left.and_then(|left| self.mappings.next_joined(left)) {
            let part = mapping.as_part();

            left = range.behind(part.range.last());
            self.clear(&mapping, part.range);
            let pages = self.removed.take_joined(&mut self.mappings, &part);
            bytes = bytes.wrapping_add(pages.wrapping_mul(PAGE_BYTES));
            cond_resched();
        }
        bytes
    }
}
