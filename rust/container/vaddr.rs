// SPDX-License-Identifier: GPL-2.0

//! `VFIO_UPDATE_VADDR`: the memory of a mapping gets another address, of another process perhaps, while
//! devices go on using it. It is the same memory: whoever gives the address answers for that.

use kernel::prelude::*;

use super::{
    claims::Purpose,
    is_complete,
    mapping::Mapping,
    unmap::Crossing,
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
    /// Takes the address of the memory from all mappings in `range`, once nobody is at work there any
    /// more. Returns how many bytes they have.
    ///
    /// Errors, and nothing has changed then: `EINVAL` the range cuts a mapping, or one has no address
    /// already; `EINTR` a fatal signal came; and `ENOMEM`.
    pub(crate) fn invalidate_vaddr(&self, range: IovaRange, crossing: Crossing) -> Result<u64> {
        self.when_unclaimed(range, |state| state.invalidate_vaddr(range, crossing))
    }

    /// Gives the mapping of `range`, whose memory has no address, one in the current process, which is
    /// charged for it from now on.
    ///
    /// Errors, and nothing has changed then: `ENOENT` nothing is mapped there; `EINVAL` there is another
    /// mapping, or it has an address; those of [`Locked::charge`]; `ENOMEM`, and `EINTR` a fatal signal
    /// came.
    pub(crate) fn update_vaddr(&self, range: IovaRange, memory: UserAddr) -> Result {
        let locked = Locked::of_current()?;
        let (mut state, claim) = self.claim(range, Purpose::Work)?;
        let found = state.without_vaddr(range);
        // mmap_lock is taken to charge.
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
            // The last group may have left meanwhile.
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
        // Accounts are settled without it.
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
    fn invalidate_vaddr(&mut self, range: IovaRange, crossing: Crossing) -> Result<u64> {
        let mut bytes = 0u64;
        let mut left = Some(range);

        if self.mappings.crosses_end_of(range) {
            match crossing {
                Crossing::Refuse | Crossing::Split => return Err(EINVAL),
                Crossing::Whole if self.begins_before(range) => return Ok(0),
                Crossing::Whole => {}
            }
        }
        let mut made = self
            .mappings
            .overlapping(range)
            .filter(|mapping| is_complete(mapping));
        if made.any(|mapping| mapping.vaddr_invalid) {
            return Err(EINVAL);
        }
        drop(made);
        while let Some(mapping) = left.and_then(|left| self.mappings.first_in_mut(left)) {
            left = range.behind(mapping.range.last());
            if is_complete(mapping) {
                mapping.vaddr_invalid = true;
                bytes = bytes.wrapping_add(mapping.range.bytes().unwrap_or(0));
            }
        }
        Ok(bytes)
    }

    /// The mapping of `range`, whose memory has no address; and how many of its pages are charged.
    fn without_vaddr(&mut self, range: IovaRange) -> Result<(Mapping, u64)> {
        let found = self
            .mappings
            .first_in(range)
            .filter(|mapping| is_complete(mapping))
            .ok_or(ENOENT)?;
        if !found.vaddr_invalid || found.range != range {
            return Err(EINVAL);
        }
        let mapping = found.copy();
        let pages = self.charged_pages(&mapping)?;

        Ok((mapping, pages))
    }

    /// How many pages of `mapping` are memory that is mapped: so many are charged.
    fn charged_pages(&mut self, mapping: &Mapping) -> Result<u64> {
        if !mapping.stateful && !mapping.mixed {
            return Ok(mapping.range.pages());
        }
        // What the hook had to unmap is charged, and is in no page table.
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

    /// Whether the memory of a mapping has no address.
    pub(super) fn any_vaddr_invalid(&self) -> bool {
        let mut mappings = self.mappings.overlapping(IovaRange::ALL);

        mappings.any(|mapping| mapping.vaddr_invalid)
    }
}
