// SPDX-License-Identifier: GPL-2.0

//! A container: one VMM's address space. Mapping and unmapping.

#![allow(unsafe_code)]

use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

use crate::{
    account::Locked,
    batch::{
        map_in_all,
        Batch,
        Buffers, //
    },
    domain::{
        rest,
        Access,
        Domain,
        Stretch, //
    },
    mapping::{
        Mapping,
        Mappings,
        Room, //
    },
    pgtable::{
        Iova,
        IovaRange,
        Phys,
        PAGE_BYTES, //
    },
    pin::{
        unpin,
        Buffer,
        Kind,
        Pinner,
        UserAddr, //
    },
    policy::Policy,
    windows::Windows, //
};

/// Stretches that are unmapped with one flush, at most.
const STRETCHES: usize = 1024;

/// A container.
#[pin_data]
pub(crate) struct Container {
    /// Everything: see the lock order in the crate's documentation.
    #[pin]
    pub(crate) state: Mutex<State>,
}

/// What a container has.
///
/// # Invariants
///
/// - Every mapping is mapped, all of it, in every domain, and each of its pages that is memory is
///   pinned once. No leaf crosses an end of a mapping.
/// - With no domain there is no mapping.
pub(crate) struct State {
    pub(crate) mappings: Mappings,
    pub(crate) domains: KVec<Domain>,
    pub(crate) windows: Windows,
    pub(crate) policy: Policy,
    /// How many mappings there may be in addition.
    pub(crate) avail: u32,
    pub(crate) scratch: Scratch,
}

/// Memory that work needs, made beforehand: teardown must not fail.
pub(crate) struct Scratch {
    pages: Buffer,
    batch: Buffers,
    pub(crate) stretches: KVVec<Stretch>,
}

/// A map request.
pub(crate) struct MapRequest {
    pub(crate) range: IovaRange,
    pub(crate) memory: UserAddr,
    pub(crate) access: Access,
}

impl Container {
    /// A container without groups, which can have `limit` mappings.
    pub(crate) fn new(limit: u32) -> Result<Pin<KBox<Self>>> {
        let state = State {
            mappings: Mappings::new(),
            domains: KVec::new(),
            windows: Windows::none(),
            policy: Policy::any_size(),
            avail: limit,
            scratch: Scratch {
                pages: Buffer::new()?,
                batch: Buffers::new()?,
                stretches: KVVec::with_capacity(STRETCHES, GFP_KERNEL_ACCOUNT)?,
            },
        };

        KBox::pin_init(
            pin_init!(Self {
                state <- new_mutex!(state, "vfio_pgsize::Container::state"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

impl State {
    /// Maps memory of the current process; all of it, or nothing.
    ///
    /// Errors: `EEXIST` part of the range is mapped; `ENOSPC` too many mappings; `EINVAL` the range
    /// is not usable; and those of [`Pinner::next_run`] and [`Domain::map`].
    pub(crate) fn map(&mut self, request: &MapRequest) -> Result {
        if self.mappings.first_in(request.range).is_some() {
            return Err(EEXIST);
        }
        let avail = self.avail.checked_sub(1).ok_or(ENOSPC)?;
        if !self.windows.admit(request.range) {
            return Err(EINVAL);
        }
        let room = Room::new()?;
        let mut mapping = Mapping {
            range: request.range,
            access: request.access,
            mixed: false,
            locked: Locked::of_current()?,
        };
        let mut done = None;

        let result = self.populate(&mut mapping, request.memory, &mut done);
        if let Err(error) = result {
            if let Some(done) = done {
                self.clear(&mapping, done);
            }
            return Err(error);
        }
        // INVARIANT: All of it is mapped and pinned.
        self.mappings.insert(room, mapping);
        self.avail = avail;
        Ok(())
    }

    /// Pins and maps, run by run; `done` says what is mapped, also after an error.
    fn populate(
        &mut self,
        mapping: &mut Mapping,
        memory: UserAddr,
        done: &mut Option<IovaRange>,
    ) -> Result {
        let (range, access) = (mapping.range, mapping.access);
        let scratch = &mut self.scratch;
        let mut pinner = Pinner::new(&mut scratch.pages, memory, range.pages(), access.write);
        let mut batch = Batch::new(&mut scratch.batch);
        let mut left = Some(range);
        let mut segment = self.policy.segment_at(range.start(), range);
        let mut mapped = |last: Option<Iova>| {
            if let Some(last) = last {
                *done = IovaRange::new(range.start(), last);
            }
        };

        while let Some(run) = pinner.next_run(&mut mapping.locked)? {
            let todo = left.ok_or(EFAULT)?;
            let bytes = run.pages().wrapping_mul(PAGE_BYTES);
            let here = IovaRange::with_len(todo.start(), bytes).ok_or(EFAULT)?;

            mapping.mixed |= run.kind() == Kind::Frames;
            if !segment.range.contains(here.start()) || !batch.has_room() {
                mapped(batch.map(&mut self.domains, access, segment.sizes)?);
                segment = self.policy.segment_at(here.start(), range);
            }
            if run.is_small() && segment.range.covers(here) {
                batch.push(here, run)?;
            } else {
                mapped(batch.map(&mut self.domains, access, segment.sizes)?);
                map_in_all(&mut self.domains, here, |domain| {
                    map_segments(domain, &self.policy, here, run.phys(), access)
                })?;
                run.keep();
                mapped(Some(here.last()));
            }
            left = here.last().next().and_then(|next| range.from(next));
        }
        mapped(batch.map(&mut self.domains, access, segment.sizes)?);
        Ok(())
    }

    /// Unmaps and unpins `range`, which is all of `mapping` or all that is mapped of it.
    fn clear(&mut self, mapping: &Mapping, range: IovaRange) {
        // One domain is read to learn what to unpin; no other may reach it then. A page table that
        // we can read ourselves is the quickest.
        let source = self
            .domains
            .iter()
            .position(|domain| domain.table().is_some())
            .unwrap_or(0);
        for (index, domain) in self.domains.iter().enumerate() {
            if index != source {
                domain.unmap(range);
            }
        }
        let Some(domain) = self.domains.get(source) else {
            return;
        };

        let found = &mut self.scratch.stretches;
        let mut left = Some(range);
        while let Some(piece) = left.and_then(|todo| domain.stretches(todo, found)) {
            let (unmapped, flushed) = domain.flushed(|gather| gather.unmap(piece));
            // What is still mapped stays pinned, come what may.
            let safe = Some(unmapped) == piece.bytes();
            if kernel::warn_on!(!safe) {
                found.clear();
            }
            for stretch in found.iter() {
                // SAFETY: By the invariants the pages of a mapping are pinned once if they are
                // memory, and they are in no domain any more.
                unsafe {
                    unpin(
                        stretch.phys,
                        stretch.range.pages(),
                        mapping.access.write,
                        mapping.mixed,
                        &flushed,
                    )
                };
            }
            left = piece.last().next().and_then(|next| range.from(next));
            rest();
        }
    }

    /// Unmaps all mappings within `range`. Returns how many bytes they had.
    ///
    /// Fails with `EINVAL` if a mapping lies only in part in the range; nothing is unmapped then.
    pub(crate) fn unmap(&mut self, range: IovaRange) -> Result<u64> {
        if self.mappings.crosses_end_of(range) {
            return Err(EINVAL);
        }
        Ok(self.unmap_in(range))
    }

    /// Unmaps all mappings. Returns how many bytes they had.
    pub(crate) fn unmap_all(&mut self) -> u64 {
        self.unmap_in(IovaRange::ALL)
    }

    fn unmap_in(&mut self, range: IovaRange) -> u64 {
        let mut bytes = 0u64;

        while let Some(mapping) = self.mappings.remove_first_in(range) {
            self.clear(&mapping, mapping.range);
            bytes = bytes.wrapping_add(mapping.range.bytes().unwrap_or(0));
            self.avail = self.avail.saturating_add(1);
        }
        bytes
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.unmap_all();
    }
}

/// Maps `range` to the frames from `phys` on, as the policy says; all of it, or nothing.
pub(crate) fn map_segments(
    domain: &mut Domain,
    policy: &Policy,
    range: IovaRange,
    phys: Phys,
    access: Access,
) -> Result {
    for segment in policy.segments(range) {
        let at = phys.at(range.start(), segment.range.start());

        if let Err(error) = domain.map(segment.range, at, access, segment.sizes) {
            let before = segment.range.start().before();
            if let Some(mapped) = before.and_then(|last| IovaRange::new(range.start(), last)) {
                domain.unmap(mapped);
            }
            return Err(error);
        }
        rest();
    }
    Ok(())
}
