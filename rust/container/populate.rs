// SPDX-License-Identifier: GPL-2.0

//! Process memory, run by run, into a range of a mapping: pinned without the container's lock, which is
//! taken to map what is pinned.

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
    sys::testing::{
        step,
        Step, //
    }, //
};

impl State {
    /// Whether `range` of `mapping`, as it was once, is there still: of the last group's leaving nobody
    /// is asked. Fails with `EINVAL` or, if it was made already, with `ENOENT`.
    pub(super) fn check(&self, mapping: &Mapping, range: IovaRange) -> Result {
        match self.same(mapping, range) {
            Some(_) => Ok(()),
            None if mapping.in_progress.is_some() => Err(EINVAL),
            None => Err(ENOENT),
        }
    }

    /// What holds `range` now, if it is `mapping`, or what is left of that.
    pub(super) fn same(&self, mapping: &Mapping, range: IovaRange) -> Option<&Mapping> {
        let is_same =
            |now: &&Mapping| now.range.covers(range) && Arc::ptr_eq(&now.locked, &mapping.locked);

        self.mappings.at(range.start()).filter(is_same)
    }

    /// So much of a mapping is mapped. It matters while it is nascent.
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
    /// Pins and maps `range`, in which nothing is mapped, of `mapping`; all of it, or nothing. Says
    /// whether some of it is no memory.
    ///
    /// The range is the caller's by a claim. The lock is taken to map what is pinned, some at a time.
    ///
    /// Errors: those of [`Pinner::next_run`] and [`Domain::map`]; and the mapping is gone, as
    /// [`State::check`] says.
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
        // What was pinned and charged, and never mapped, or is not any more.
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

/// A range of a mapping that is being populated.
struct Population<'p> {
    container: &'p Container,
    mapping: &'p Mapping,
    range: IovaRange,
    /// The policy at the place that is next, as it was when the lock was last held.
    segment: Segment,
    /// What is mapped, from the start on.
    mapped: Option<IovaRange>,
    /// Pages of that which are memory.
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
                // Only memory is taken away from under a mapping and given back.
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

    /// Takes the lock. Fails with `EINTR`, or if the mapping is gone.
    fn enter(&mut self) -> Result<Entered<'_, 'p>> {
        let state = self.container.lock()?;

        state.check(self.mapping, self.range)?;
        Ok(Entered {
            state,
            population: self,
        })
    }

    /// Takes back what is mapped.
    fn undo(&mut self) {
        let Some(done) = self.mapped else {
            return;
        };
        let mut state = self.container.state.lock();

        // If the mapping is gone, what was mapped of it went with it.
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

/// A population, with the container's lock held.
struct Entered<'s, 'p> {
    state: StateGuard<'s>,
    population: &'s mut Population<'p>,
}

impl Entered<'_, '_> {
    /// Maps what is gathered; what comes next is at `next`.
    fn put(&mut self, batch: &mut Batch<'_>, next: Iova) -> Result {
        let (range, segment) = (self.population.range, self.population.segment);
        let access = self.population.mapping.access;
        let now = self.state.policy.segment_at(segment.range.start(), range);

        if now == segment {
            let mapped = batch.map(&mut self.state.domains, access, segment.rule.sizes)?;
            self.note(mapped, Kind::Memory);
        } else {
            // They were gathered for another policy.
            batch.drain(|here, run| self.put_run(here, run))?;
        }
        self.population.segment = self.state.policy.segment_at(next, range);
        Ok(())
    }

    /// Maps `run` by itself.
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

    /// `mapped` is mapped, behind all that was.
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
