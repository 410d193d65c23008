// SPDX-License-Identifier: GPL-2.0

//! Pins memory and maps it. Pinning may sleep for long, so it does not hold the container's lock;
//! mapping does.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    batch::{
        map_in_all,
        Batch, //
    },
    mapping::Mapping,
    Container,
    Pins,
    State,
    StateGuard, //
};
use crate::{
    mm::{
        Kind,
        PinnedRun,
        Pinner, //
    },
    pgtable::{
        Iova,
        IovaRange, //
    },
    policy::Segment,
    rmp::map_contig,
    sys::{
        num::unsupported,
        testing::{
            step,
            Step, //
        }, //
    }, //
};

impl State {
    /// Checks that `range` of `mapping`, a copy, still exists: detaching the last group removes
    /// mappings despite claims. Fails with `EINVAL` if the mapping was in progress, else with
    /// `ENOENT`; and with `EOPNOTSUPP` if the last domain is gone.
    pub(super) fn check(&self, mapping: &Mapping, range: IovaRange) -> Result {
        match self.same(mapping, range) {
            Some(_) if self.domains.is_empty() => Err(unsupported()),
            Some(_) => Ok(()),
            None if mapping.in_progress.is_some() => Err(EINVAL),
            None => Err(ENOENT),
        }
    }

    /// The mapping that contains `range`, if it is `mapping` or a part of it.
    pub(super) fn same(&self, mapping: &Mapping, range: IovaRange) -> Option<&Mapping> {
        let claim = |mapping: &Mapping| mapping.in_progress.map(|in_progress| in_progress.claim);
        // A stateful mapping has a `Locked` of its own. Pieces of one process share one: a mapping that
        // is in progress is known by its claim, too.
        let is_same = |now: &&Mapping| {
            now.range.covers(range)
                && Arc::ptr_eq(&now.locked, &mapping.locked)
                && (mapping.stateful
                    || mapping.in_progress.is_none()
                    || claim(now) == claim(mapping))
        };

        self.mappings.at(range.start()).filter(is_same)
    }

    /// The same, to be changed.
    pub(super) fn same_mut(&mut self, mapping: &Mapping, range: IovaRange) -> Option<&mut Mapping> {
        self.same(mapping, range)?;
        self.mappings.first_in_mut(range)
    }

    /// Records what is mapped of `mapping`, if it is in progress.
    fn note_mapped(&mut self, mapping: &Mapping, mapped: Option<IovaRange>) {
        let in_progress = mapping.in_progress.and_then(|in_progress| {
            let start = mapping.range.start();
            self.mappings
                .in_progress_at(start, in_progress.claim)?
                .in_progress
                .as_mut()
        });

        if let Some(in_progress) = in_progress {
            in_progress.mapped = mapped;
        }
    }
}

impl Container {
    /// Pins and maps `range` of `mapping`, in which nothing is mapped. All or nothing. Returns
    /// whether some frames are no memory.
    ///
    /// The caller has claimed the range. Takes the lock to map what is pinned, several times.
    ///
    /// Sleeps. Fails as [`Pinner::next_run`], [`map_contig`] and [`State::check`], and with
    /// `EFAULT` if a stateful mapping has frames that are no memory.
    pub(super) fn populate(
        &self,
        mapping: &Mapping,
        range: IovaRange,
        pins: &mut Pins,
    ) -> Result<bool> {
        step(Step::MapClaimed);
        let Pins { pages, batch } = pins;
        let write = mapping.access.write;
        let memory = mapping.memory_at(range.start());
        let mut pinner = Pinner::new(pages, memory, range.pages(), write);
        let mut population = Population {
            container: self,
            mapping,
            range,
            segment: self.lock()?.policy.segment_at(range.start(), range),
            mapped: None,
            memory: 0,
            mixed: false,
        };
        let result = population.proceed(&mut pinner, &mut Batch::new(batch));
        // Includes pages that were charged but are not mapped.
        let charged = pinner.charged();

        drop(pinner);
        if result.is_err() {
            population.undo();
        }
        let more = charged.saturating_sub(population.memory);
        mapping.locked.release(more);
        result.map(|()| population.mixed)
    }
}

/// A range that is being populated.
struct Population<'p> {
    container: &'p Container,
    mapping: &'p Mapping,
    range: IovaRange,
    /// The segment at the next address, when the lock was last held.
    segment: Segment,
    /// What is mapped, from the start on.
    mapped: Option<IovaRange>,
    /// Number of pages of memory in `mapped`.
    memory: u64,
    mixed: bool,
}

impl<'p> Population<'p> {
    fn proceed(&mut self, pinner: &mut Pinner<'_>, batch: &mut Batch<'_>) -> Result {
        let range = self.range;
        let mut left = Some(range);

        while let Some(run) = pinner.next_run(&self.mapping.locked)? {
            let todo = left.ok_or(EFAULT)?;
            let here = run.range_from(todo.start()).ok_or(EFAULT)?;

            self.mixed |= run.kind() == Kind::Frames;
            if self.mixed && self.mapping.stateful {
                // Only memory can be private.
                return Err(EFAULT);
            }
            if !self.segment.range.contains(here.start()) || !batch.has_room() {
                self.enter()?.put(batch, here.start())?;
            }
            if Batch::suits(&run, self.segment.rule) && self.segment.range.covers(here) {
                batch.push(here, run)?;
            } else {
                let mut entered = self.enter()?;
                entered.put(batch, here.start())?;
                entered.put_run(here, run)?;
            }
            left = range.behind(here.last());
        }
        self.enter()?.put(batch, range.start())
    }

    /// Takes the lock. Fails with `EINTR` on a fatal signal, and as [`State::check`].
    fn enter(&mut self) -> Result<Entered<'_, 'p>> {
        let state = self.container.lock()?;

        state.check(self.mapping, self.range)?;
        Ok(Entered {
            state,
            population: self,
        })
    }

    /// Unmaps and unpins what was mapped.
    fn undo(&mut self) {
        let Some(done) = self.mapped else {
            return;
        };
        let mut state = self.container.state.lock();

        // A mapping that was removed was unmapped, too.
        if state.check(self.mapping, self.range).is_ok() {
            let part = Mapping {
                mixed: true,
                ..self.mapping.part(done)
            };
            state.clear(&part, done);
            state.note_mapped(self.mapping, None);
        }
    }
}

/// A population, with the lock held.
struct Entered<'s, 'p> {
    state: StateGuard<'s>,
    population: &'s mut Population<'p>,
}

impl Entered<'_, '_> {
    /// Maps the batch. The next run starts at `next`.
    fn put(&mut self, batch: &mut Batch<'_>, next: Iova) -> Result {
        let (range, segment) = (self.population.range, self.population.segment);
        let access = self.population.mapping.access;
        let now = self.state.policy.segment_at(segment.range.start(), range);

        if now == segment {
            let mapped = batch.map(&mut self.state.domains, access, segment.rule.sizes)?;
            self.note(mapped, Kind::Memory);
        } else {
            // The policy has changed since: map run by run.
            batch.drain(|here, run| self.put_run(here, run))?;
        }
        self.population.segment = self.state.policy.segment_at(next, range);
        Ok(())
    }

    /// Maps one run.
    fn put_run(&mut self, here: IovaRange, mut run: PinnedRun) -> Result {
        let access = self.population.mapping.access;
        let state = &mut *self.state;
        let (policy, follower) = (&state.policy, &state.follower);

        map_in_all(&mut state.domains, here, |domain| {
            map_contig(domain, policy, here, run.phys(), access, follower)
        })
        .inspect_err(|_| run.was_mapped(access.write))?;
        self.note(Some(here), run.kind());
        run.keep();
        Ok(())
    }

    /// Records that `mapped`, behind everything else, is mapped.
    fn note(&mut self, mapped: Option<IovaRange>, kind: Kind) {
        let population = &mut *self.population;
        let Some(now) = mapped else {
            return;
        };

        if kind == Kind::Memory {
            population.memory = population.memory.saturating_add(now.pages());
        }
        if population.mapping.stateful {
            self.state.shared = self.state.shared.saturating_add(now.pages());
        }
        population.mapped = IovaRange::new(population.range.start(), now.last());
        self.state
            .note_mapped(population.mapping, population.mapped);
    }
}
