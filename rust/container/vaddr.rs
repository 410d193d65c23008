// SPDX-License-Identifier: GPL-2.0

//! `VFIO_UPDATE_VADDR`: changes the process address of a mapping's memory, possibly to that of another
//! process, while devices continue to use the pinned pages.

use kernel::prelude::*;

use super::{
    claims::Purpose,
    crossing::Crossing,
    is_complete,
    mapping::Mapping,
    Container,
    State, //
};
use crate::{
    mm::{
        memory_pages,
        Locked,
        UserAddr, //
    },
    pgtable::IovaRange,
    sys::sched::cond_resched, //
};

impl Container {
    /// Invalidates the addresses of all mappings in `range`, when no other call works there. Returns the
    /// number of bytes.
    ///
    /// Sleeps. Fails with `EBUSY` if there are emulated devices; `EINVAL` if a mapping crosses an end of
    /// the range and `crossing` refuses or splits it, or an address is invalid already; `EINTR` on a
    /// fatal signal; `ENOMEM`; and as [`State::separate`]. Nothing has changed then.
    pub(crate) fn invalidate_vaddr(&self, range: IovaRange, crossing: Crossing) -> Result<u64> {
        let (bytes, removed) = self.when_unclaimed(range, |state| {
            let bytes = state.invalidate_vaddr(range, crossing)?;
            Ok((bytes, state.take_removed()))
        })?;

        drop(removed);
        Ok(bytes)
    }

    /// Gives the mapping at `range`, whose address is invalid, an address in the current process, and
    /// charges that instead of the previous one.
    ///
    /// Sleeps. Fails with `ENOENT` if nothing is mapped there; `EINVAL` if the mapping is another one or
    /// has an address; `ENOMEM`; `EINTR` on a fatal signal; and as [`Locked::charge`]. Nothing has changed
    /// then.
    pub(crate) fn update_vaddr(&self, range: IovaRange, memory: UserAddr) -> Result {
        let locked = Locked::of_current()?;
        let (mut state, claim) = self.claim(range, Purpose::Work)?;
        let found = state.without_vaddr(range);
        // Charging takes mmap_lock.
        drop(state);

        let result = found.and_then(|(mapping, pages)| {
            let moves = !mapping.locked.is_of_current();
            if moves {
                locked.charge(pages)?;
            }
            Ok((mapping, pages, moves))
        });
        let mut state = self.state.lock();
        state.claims.end(claim);
        let updated = result.as_ref().is_ok_and(|(old, _, moves)| {
            // The mapping may have gone with the last group.
            let Some(now) = state.same_mut(old, range) else {
                return false;
            };
            now.memory = memory;
            now.vaddr_invalid = false;
            if *moves {
                now.locked = locked.clone();
            }
            true
        });
        // Settling takes mmap_lock.
        drop(state);

        let (old, pages, moves) = result?;
        if updated && moves {
            old.locked.release(pages);
            old.locked.settle();
        }
        if updated {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }
}

impl State {
    /// Fails with `EBUSY` if there are emulated devices, which can use addresses at any time.
    pub(crate) fn check_moves(&self) -> Result {
        if self.emulated.any() {
            return Err(EBUSY);
        }
        Ok(())
    }

    fn invalidate_vaddr(&mut self, range: IovaRange, crossing: Crossing) -> Result<u64> {
        let mut range = range;
        let mut bytes = 0u64;

        self.check_moves()?;
        if self.mappings.crosses_end_of(range) {
            match crossing {
                Crossing::Refuse | Crossing::Split => return Err(EINVAL),
                Crossing::Whole if self.mappings.go_on_at(range.start()) => return Ok(0),
                Crossing::Whole => range = self.mappings.to_end_of_last(range),
            }
        }
        let mut made = self
            .mappings
            .single_in(range)
            .filter(|mapping| is_complete(mapping));
        if made.any(|mapping| mapping.vaddr_invalid) {
            return Err(EINVAL);
        }
        drop(made);
        self.separate(range)?;
        let mut left = Some(range);
        while let Some(mapping) = left.and_then(|left| self.mappings.first_in_mut(left)) {
            left = range.behind(mapping.range.last());
            if is_complete(mapping) {
                mapping.vaddr_invalid = true;
                bytes = bytes.wrapping_add(mapping.range.bytes().unwrap_or(0));
            }
        }
        Ok(bytes)
    }

    /// The mapping at `range`, whose address is invalid, and the number of its charged pages.
    fn without_vaddr(&mut self, range: IovaRange) -> Result<(Mapping, u64)> {
        let found = self
            .mappings
            .first_in(range)
            .filter(|mapping| is_complete(mapping))
            // Of joined mappings addresses are valid.
            .ok_or_else(|| match self.mappings.joined.any_in(range) {
                true => EINVAL,
                false => ENOENT,
            })?;
        if !found.vaddr_invalid || found.range != range {
            return Err(EINVAL);
        }
        let mapping = found.copy();
        let pages = self.charged_pages(&mapping)?;

        Ok((mapping, pages))
    }

    /// The number of charged pages of `mapping`: mapped pages that are memory.
    fn charged_pages(&mut self, mapping: &Mapping) -> Result<u64> {
        if !mapping.stateful && !mapping.mixed {
            return Ok(mapping.range.pages());
        }
        // Lost leaves are charged, and are not in the page table.
        self.repair_lost()?;
        let source = self.source().and_then(|index| self.domains.get(index));
        let found = &mut self.scratch.contigs;
        let mut left = Some(mapping.range);
        let mut pages = 0u64;

        while let Some((todo, source)) = left.zip(source) {
            let Some(todo) = source.skip_holes(todo) else {
                break;
            };
            let seen = source.contig_runs(todo, found);
            for run in found.iter() {
                let memory = memory_pages(run.phys, run.range.pages(), mapping.mixed);
                pages = pages.saturating_add(memory);
            }
            left = todo.behind(seen.last());
            cond_resched();
        }
        found.clear();
        Ok(pages)
    }

    /// Whether the address of any mapping is invalid.
    pub(super) fn any_vaddr_invalid(&self) -> bool {
        let mut single = self.mappings.single_in(IovaRange::ALL);

        single.any(|mapping| mapping.vaddr_invalid)
    }
}
