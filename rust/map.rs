// SPDX-License-Identifier: GPL-2.0

//! Mapping: what a map request begins and ends with; and frames, stretch by stretch, into a domain's
//! page table as the policy says.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    account::Locked,
    apply::convert_part,
    claim::{
        NewClaim,
        Purpose,
        Ticket, //
    },
    container::{
        Container,
        State, //
    },
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
        Nascent,
        Room, //
    },
    num::unsupported,
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        PageSizes,
        Phys, //
    },
    pin::UserAddr,
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

impl Container {
    /// Maps memory of the current process; all of it, or nothing.
    ///
    /// Errors: those of [`State::begin_map`] and [`Container::populate`]; `EINVAL` the last group left
    /// meanwhile.
    pub(crate) fn map(&self, request: &MapRequest) -> Result {
        let room = Room::new()?;
        let new = NewClaim::new()?;
        let locked = Locked::of_current()?;
        let (mapping, claim) = self.lock()?.begin_map(request, room, new, locked)?;
        let Some(claim) = claim else {
            return Ok(());
        };

        let result =
            self.with_tools(|tools| self.populate(&mapping, mapping.range, &mut tools.pins));
        self.at_once(|state| state.end_map(&mapping, claim, result))
    }
}

impl State {
    /// Knows of a mapping that is to be made. If there is something to be pinned, it is nascent until
    /// [`State::end_map`].
    ///
    /// Errors: `EEXIST` part of the range is mapped, or is being mapped; `ENOSPC` too many mappings;
    /// `EINVAL` the range is not usable; `EOPNOTSUPP` pages can have no state, for a domain's page table
    /// can not be edited.
    fn begin_map(
        &mut self,
        request: &MapRequest,
        room: Room,
        new: NewClaim,
        locked: Arc<Locked>,
    ) -> Result<(Mapping, Option<Ticket>)> {
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
        let claim = match request.shared {
            true => Some(self.claims.make(request.range, Purpose::Work, new)?),
            false => None,
        };
        let mapping = Mapping {
            range: request.range,
            memory: request.memory,
            access: request.access,
            stateful: request.stateful,
            mixed: claim.is_some(),
            nascent: claim.map(|claim| Nascent {
                claim,
                mapped: None,
            }),
            locked,
        };

        // INVARIANT: All of it is private, or nothing of it is mapped yet.
        self.mappings.insert(room, mapping.copy());
        self.avail = avail;
        if mapping.stateful {
            self.stateful = self.stateful.saturating_add(mapping.range.pages());
        }
        Ok((mapping, claim))
    }

    /// A mapping is made, or is not to be.
    fn end_map(&mut self, mapping: &Mapping, claim: Ticket, result: Result<bool>) -> Result {
        self.claims.end(claim);
        let Some(made) = self.mappings.nascent_at(mapping.range.start(), claim) else {
            return result.and(Err(EINVAL));
        };

        match result {
            // INVARIANT: All of it is mapped and pinned.
            Ok(mixed) => {
                made.mixed = mixed;
                made.nascent = None;
                step(Step::MapInserted);
                Ok(())
            }
            Err(error) => {
                self.gone.take(&mut self.mappings, mapping.range);
                self.forget_state(mapping);
                self.avail = self.avail.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Whether `range` of `mapping`, as it was once, is there still: of the last group's leaving nobody
    /// is asked. Fails with `EINVAL` or, if it was made already, with `ENOENT`.
    pub(crate) fn check(&self, mapping: &Mapping, range: IovaRange) -> Result {
        match self.same(mapping, range) {
            Some(_) => Ok(()),
            None if mapping.nascent.is_some() => Err(EINVAL),
            None => Err(ENOENT),
        }
    }

    /// What holds `range` now, if it is `mapping`, or what is left of that.
    pub(crate) fn same(&self, mapping: &Mapping, range: IovaRange) -> Option<&Mapping> {
        let is_same =
            |now: &&Mapping| now.range.covers(range) && Arc::ptr_eq(&now.locked, &mapping.locked);

        self.mappings.at(range.start()).filter(is_same)
    }

    /// So much of a mapping is mapped. It matters while it is nascent.
    pub(crate) fn note_mapped(&mut self, mapping: &Mapping, mapped: Option<IovaRange>) {
        let nascent = mapping.nascent.and_then(|nascent| {
            let start = mapping.range.start();
            self.mappings
                .nascent_at(start, nascent.claim)?
                .nascent
                .as_mut()
        });

        if let Some(nascent) = nascent {
            nascent.mapped = mapped;
        }
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
