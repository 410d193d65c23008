// SPDX-License-Identifier: GPL-2.0

//! `dma_rw()` of emulated devices: copies to and from process memory.

#![allow(unsafe_code)]

use kernel::prelude::*;

use super::{
    claims::Purpose,
    is_complete,
    mapping::Mapping,
    pins::page_of,
    Container,
    State, //
};
use crate::{
    mm::{
        self,
        UserAddr, //
    },
    pgtable::{
        Iova,
        IovaRange,
        PAGE_BYTES, //
    },
    sys::num::{
        to_u64,
        to_usize, //
    }, //
};

impl Container {
    /// Copies `count` bytes from `data` to the memory at `iova` if `write`, else in the other direction.
    /// Claims the range, and copies without the container's lock. After an error a part may be copied.
    ///
    /// Sleeps. Fails with `EINVAL` if a page is not mapped; `EPERM` if the mapping does not permit reads,
    /// or does not permit writes and `write` is set, or a page is private; `ENOMEM`; `EINTR` on a fatal
    /// signal; and as [`mm::copy`].
    ///
    /// # Safety
    ///
    /// `data` is valid for so many bytes.
    pub(crate) unsafe fn dma_rw(
        &self,
        iova: Iova,
        data: *mut c_void,
        count: usize,
        write: bool,
    ) -> Result {
        let more = to_u64(count).checked_sub(1).ok_or(EINVAL)?;
        let last = iova.checked_add(more).ok_or(EINVAL)?;
        let pages = page_of(iova).hull(page_of(last));
        let (state, claim) = self.claim(pages, Purpose::Work)?;
        drop(state);

        let mut left = Some(pages);
        let mut result = Ok(());
        while let Some(todo) = left {
            let chunk = self.state.lock().chunk(todo, write);
            result = chunk.and_then(|(mapping, part)| {
                let start = part.start().max(iova);
                let length = part.last().min(last).above(start).saturating_add(1);
                let at = to_usize(start.above(iova));
                left = pages.behind(part.last());
                // SAFETY: `data` is valid for the bytes from `iova` to `last`, of which these are a part.
                unsafe {
                    mm::copy(
                        &mapping.locked,
                        address_of(&mapping, start),
                        data.byte_add(at),
                        to_usize(length),
                        write,
                    )
                }
            });
            if result.is_err() {
                break;
            }
        }
        let mut state = self.state.lock();
        if write {
            // Also after an error: a part may be written.
            state.note_written(pages);
        }
        state.claims.end(claim);
        result
    }
}

/// The process address of a byte of `mapping`.
fn address_of(mapping: &Mapping, iova: Iova) -> UserAddr {
    let within = iova.get() & (PAGE_BYTES - 1);
    let page = mapping.memory_at(iova);

    UserAddr::new(page.get().wrapping_add(to_usize(within)))
}

impl State {
    /// The first mapping of `pages`, and the part of `pages` in it.
    fn chunk(&self, pages: IovaRange, write: bool) -> Result<(Mapping, IovaRange)> {
        let found = self.mappings.at(pages.start());
        let mapping = found.filter(|found| is_complete(found)).ok_or(EINVAL)?;
        let part = mapping.range.intersect(pages).ok_or(EINVAL)?;

        if !mapping.access.read || write && !mapping.access.write {
            return Err(EPERM);
        }
        if !self.is_shared_in(mapping, part) {
            return Err(EPERM);
        }
        Ok((mapping.copy(), part))
    }
}
