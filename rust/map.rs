// SPDX-License-Identifier: GPL-2.0

//! Mapping: process memory, run by run, into the page tables of all domains.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    account::Locked,
    apply::convert_part,
    batch::{
        map_in_all,
        Batch, //
    },
    container::State,
    domain::{
        first_piece,
        give_way,
        Access,
        Domain,
        PIECE, //
    },
    follower::Follower,
    mapping::{
        Mapping,
        Room, //
    },
    num::unsupported,
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        PageSizes,
        Phys,
        PAGE_BYTES, //
    },
    pin::{
        Pinner,
        UserAddr, //
    },
    pinned::Kind,
    policy::{
        Policy,
        Rule, //
    },
    stretch::Stretch,
    testing::{
        step,
        Step, //
    }, //
};

/// A map request.
pub(crate) struct MapRequest {
    pub(crate) range: IovaRange,
    pub(crate) memory: UserAddr,
    pub(crate) access: Access,
    /// Its pages have a state.
    pub(crate) stateful: bool,
    /// They are mapped at once.
    pub(crate) shared: bool,
}

impl State {
    /// Maps memory of the current process; all of it, or nothing.
    ///
    /// Errors: `EEXIST` part of the range is mapped; `ENOSPC` too many mappings; `EINVAL` the range
    /// is not usable; `EOPNOTSUPP` pages can have no state, for a domain's page table can not be
    /// edited; and those of [`State::populate`].
    pub(crate) fn map(&mut self, request: &MapRequest) -> Result {
        if self.mappings.first_in(request.range).is_some() {
            return Err(EEXIST);
        }
        let avail = self.avail.checked_sub(1).ok_or(ENOSPC)?;
        if !self.windows.admit(request.range) {
            return Err(EINVAL);
        }
        if request.stateful && !self.domains.iter().all(|domain| domain.table().is_some()) {
            return Err(unsupported());
        }
        let room = Room::new()?;
        let mut mapping = Mapping {
            range: request.range,
            memory: request.memory,
            access: request.access,
            stateful: request.stateful,
            mixed: false,
            locked: Locked::of_current()?,
        };

        if request.shared {
            mapping.mixed = self.populate(&mapping, mapping.range)?;
        }
        // INVARIANT: All of it is mapped and pinned, or is private.
        if mapping.stateful {
            self.stateful = self.stateful.saturating_add(mapping.range.pages());
        }
        self.mappings.insert(room, mapping);
        step(Step::MapInserted);
        self.avail = avail;
        Ok(())
    }

    /// Pins and maps `range`, in which nothing is mapped, of `mapping`; all of it, or nothing. Says
    /// whether some of it is no memory.
    ///
    /// Errors: those of [`Pinner::next_run`] and [`Domain::map`].
    pub(crate) fn populate(&mut self, mapping: &Mapping, range: IovaRange) -> Result<bool> {
        let before = mapping.locked.pages();
        let mut done = None;
        let result = self.pin_and_map(mapping, range, &mut done);

        if result.is_err() {
            if let Some(done) = done {
                let mixed = true;
                self.clear(
                    &Mapping {
                        mixed,
                        ..mapping.part(done)
                    },
                    done,
                );
            }
            // What was pinned and charged, and never mapped.
            let more = mapping.locked.pages().saturating_sub(before);
            mapping.locked.release(more);
        }
        result
    }

    /// The same; `done` says what is mapped, also after an error.
    fn pin_and_map(
        &mut self,
        mapping: &Mapping,
        range: IovaRange,
        done: &mut Option<IovaRange>,
    ) -> Result<bool> {
        let access = mapping.access;
        let memory = mapping.memory_at(range.start());
        let scratch = &mut self.scratch;
        let mut pinner = Pinner::new(&mut scratch.pages, memory, range.pages(), access.write);
        let mut batch = Batch::new(&mut scratch.batch);
        let mut left = Some(range);
        let mut segment = self.policy.segment_at(range.start(), range);
        let mut mixed = false;
        let shared = &mut self.shared;
        let mut mapped = |last: Option<Iova>| {
            if let Some(last) = last {
                if mapping.stateful {
                    let before = done.map_or(0, IovaRange::pages);
                    let now = IovaRange::new(range.start(), last).map_or(0, IovaRange::pages);
                    *shared = shared.saturating_add(now.saturating_sub(before));
                }
                *done = IovaRange::new(range.start(), last);
            }
        };

        while let Some(mut run) = pinner.next_run(&mapping.locked)? {
            let todo = left.ok_or(EFAULT)?;
            let bytes = run.pages().wrapping_mul(PAGE_BYTES);
            let here = IovaRange::with_len(todo.start(), bytes).ok_or(EFAULT)?;

            mixed |= run.kind() == Kind::Frames;
            if mixed && mapping.stateful {
                // Only memory is taken away from under a mapping and given back.
                return Err(EFAULT);
            }
            if !segment.range.contains(here.start()) || !batch.has_room() {
                mapped(batch.map(&mut self.domains, access, segment.rule.sizes)?);
                segment = self.policy.segment_at(here.start(), range);
            }
            if Batch::suits(&run, segment.rule) && segment.range.covers(here) {
                batch.push(here, run)?;
            } else {
                mapped(batch.map(&mut self.domains, access, segment.rule.sizes)?);
                map_in_all(&mut self.domains, here, |domain| {
                    let (policy, follower) = (&self.policy, &self.follower);
                    map_stretch(domain, policy, here, run.phys(), access, follower)
                })
                .inspect_err(|_| run.was_mapped(access.write))?;
                run.keep();
                mapped(Some(here.last()));
            }
            left = range.behind(here.last());
        }
        mapped(batch.map(&mut self.domains, access, segment.rule.sizes)?);
        Ok(mixed)
    }
}

/// Maps `range` to the frames from `phys` on, as the policy says; all of it, or nothing.
///
/// Fails as [`Domain::map`], and with `EINTR` if a fatal signal came.
pub(crate) fn map_stretch(
    domain: &mut Domain,
    policy: &Policy,
    range: IovaRange,
    phys: Phys,
    access: Access,
    follower: &Arc<Follower>,
) -> Result {
    for segment in policy.segments(range) {
        let sizes = domain.usable(segment.rule.sizes);
        let rule = Rule {
            sizes,
            ..segment.rule
        };
        let at = |iova| phys.at(range.start(), iova);
        let size = piece_size(segment.range.start(), at(segment.range.start()), sizes);
        let mut left = Some(segment.range);

        while let Some(todo) = left {
            let piece = first_piece(todo, size);
            let result = if rule.follows() {
                domain.map_followed(piece, at(piece.start()), access, rule, follower)
            } else {
                map_piece(domain, piece, at(piece.start()), access, sizes)
            };
            let signal = give_way();

            if let Err(error) = result.and(signal) {
                let end = if result.is_ok() {
                    Some(piece.last())
                } else {
                    piece.start().before()
                };
                if let Some(mapped) = end.and_then(|last| IovaRange::new(range.start(), last)) {
                    domain.take_back(mapped);
                }
                return Err(error);
            }
            left = todo.behind(piece.last());
        }
    }
    Ok(())
}

/// How much is mapped between two looks at signals: aligned blocks of this size, of which no leaf
/// crosses the ends, wherever the memory is contiguous.
fn piece_size(iova: Iova, phys: Phys, sizes: PageSizes) -> PageSize {
    let differ = iova.get() ^ phys.get();
    let alike = PageSizes::from_bits(differ ^ differ.wrapping_sub(1));

    sizes
        .intersect(alike)
        .largest()
        .map_or(PIECE, |size| size.max(PIECE))
}

/// Maps a piece of a stretch; all of it, or nothing.
fn map_piece(
    domain: &mut Domain,
    range: IovaRange,
    phys: Phys,
    access: Access,
    sizes: PageSizes,
) -> Result {
    const SIZE: PageSize = PageSize::SIZE_2M;
    let large = sizes.up_to(SIZE) != sizes || sizes.allows(SIZE);
    let blocks = Stretch { range, phys }.blocks();

    if large || blocks.is_none() || domain.table().is_none() {
        return domain.map(range, phys, access, sizes);
    }
    // Large leaves first, then split: a table is filled several times as fast as leaves are mapped
    // one by one. Nobody knows yet that anything is mapped here.
    domain.map(range, phys, access, sizes.union(PageSizes::only(SIZE)))?;
    convert_part(domain, range, sizes).inspect_err(|_| {
        domain.unmap(range);
    })
}
