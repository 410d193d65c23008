// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Mappings, the pages of them that devices reach, and the leaves that these make.

use std::collections::BTreeMap;
use std::io;

use crate::bindings::vfio_pgsize_query;
use crate::bindings::vfio_pgsize_run;
use crate::bindings::VFIO_PGSIZE_QUERY_STATE;
use crate::bindings::VFIO_PGSIZE_RUN_PRIVATE;
use crate::bindings::VFIO_PGSIZE_RUN_READ;
use crate::bindings::VFIO_PGSIZE_RUN_WRITE;
use crate::range::IovaRange;
use crate::range::PAGE;
use crate::sizes::PageSizes;
use crate::state::Change;
use crate::state::State;

use super::check;
use super::errno;
use super::policies::PolicyMap;
use super::SUPPORTED;

#[derive(Clone, Debug)]
struct Mapping {
    last: u64,
    vaddr: u64,
    is_stateful: bool,
}

#[derive(Debug, Default)]
pub(super) struct Space {
    /// By their first address.
    mappings: BTreeMap<u64, Mapping>,
    /// Pages that devices reach, with the leaf sizes in force there.
    pages: BTreeMap<u64, PageSizes>,
}

/// The pages of a range.
fn pages_of(range: IovaRange) -> impl Iterator<Item = u64> {
    (0..range.size / PAGE).map(move |index| range.iova + index * PAGE)
}

impl Space {
    pub(super) fn mappings(&self) -> usize {
        self.mappings.len()
    }

    pub(super) fn is_reached(&self, iova: u64) -> bool {
        self.pages.contains_key(&(iova & !(PAGE - 1)))
    }

    /// The mapping at an address, or else the next one.
    fn mapping_from(&self, iova: u64) -> Option<(u64, &Mapping)> {
        let before = self.mappings.range(..=iova).next_back();
        before
            .filter(|(_, mapping)| mapping.last >= iova)
            .or_else(|| self.mappings.range(iova..).next())
            .map(|(start, mapping)| (*start, mapping))
    }

    pub(super) fn map(
        &mut self,
        range: IovaRange,
        vaddr: u64,
        is_stateful: bool,
    ) -> io::Result<()> {
        let last = check(range)?;
        if self
            .mapping_from(range.iova)
            .is_some_and(|(start, _)| start <= last)
        {
            return Err(errno(libc::EEXIST));
        }
        let mapping = Mapping {
            last,
            vaddr,
            is_stateful,
        };
        self.mappings.insert(range.iova, mapping);
        Ok(())
    }

    pub(super) fn fill(&mut self, range: IovaRange, policies: &PolicyMap) {
        for page in pages_of(range) {
            self.pages.entry(page).or_insert(policies.at(page).sizes);
        }
    }

    fn empty(&mut self, range: IovaRange) {
        for page in pages_of(range) {
            self.pages.remove(&page);
        }
    }

    pub(super) fn unmap(&mut self, range: IovaRange, can_divide: bool) -> io::Result<u64> {
        let last = check(range)?;
        let over: Vec<_> = self
            .mappings
            .range(..=last)
            .filter(|(_, mapping)| mapping.last >= range.iova)
            .map(|(start, mapping)| (*start, mapping.clone()))
            .collect();
        let is_divided = |start: u64, mapping: &Mapping| start < range.iova || mapping.last > last;
        if !can_divide
            && over
                .iter()
                .any(|(start, mapping)| is_divided(*start, mapping))
        {
            return Err(errno(libc::EINVAL));
        }
        let mut bytes = 0;
        for (start, mapping) in over {
            let from = start.max(range.iova);
            let to = mapping.last.min(last);
            self.mappings.remove(&start);
            if start < from {
                let rest = Mapping {
                    last: from - 1,
                    ..mapping
                };
                self.mappings.insert(start, rest);
            }
            if mapping.last > to {
                let vaddr = mapping.vaddr + (to + 1 - start);
                self.mappings.insert(to + 1, Mapping { vaddr, ..mapping });
            }
            self.empty(IovaRange::new(from, to - from + 1));
            bytes += to - from + 1;
        }
        Ok(bytes)
    }

    /// Brings policies into force in a range; in one of no bytes, wherever the container's applies.
    pub(super) fn apply(&mut self, range: IovaRange, policies: &PolicyMap) {
        let last = range.last();
        for (page, sizes) in &mut self.pages {
            let is_in = match last {
                Some(last) => (range.iova..=last).contains(page),
                None => policies.is_inherited(*page),
            };
            if is_in {
                *sizes = policies.at(*page).sizes;
            }
        }
    }

    pub(super) fn change(&mut self, change: Change, policies: &PolicyMap) -> io::Result<()> {
        let range = change.range();
        let last = check(range)?;
        let is_within = self
            .mapping_from(range.iova)
            .is_some_and(|(start, mapping)| {
                mapping.is_stateful && start <= range.iova && last <= mapping.last
            });
        if !is_within {
            return Err(errno(libc::ENOENT));
        }
        match change.state() {
            State::Shared => self.fill(range, policies),
            State::Private => self.empty(range),
        }
        Ok(())
    }

    /// Shared bytes, and all bytes, of stateful mappings.
    pub(super) fn stateful_bytes(&self) -> (u64, u64) {
        self.mappings
            .iter()
            .filter(|(_, mapping)| mapping.is_stateful)
            .fold((0, 0), |(shared, all), (start, mapping)| {
                let pages = self.pages.range(*start..=mapping.last).count() as u64;
                (shared + pages * PAGE, all + (mapping.last - start) + 1)
            })
    }

    /// The leaf over a page that devices reach: the largest that policy, mapping and memory allow.
    fn leaf_at(&self, page: u64, sizes: PageSizes, start: u64, mapping: &Mapping) -> IovaRange {
        let sizes_here = PageSizes::from_bits(sizes.bits() & SUPPORTED);
        let fits = |size: &u64| {
            let base = page & !(size - 1);
            let Some(last) = base.checked_add(size - 1) else {
                return false;
            };
            base >= start
                && last <= mapping.last
                && (mapping.vaddr + (base - start)) % size == 0
                && self
                    .pages
                    .range(base..=last)
                    .filter(|(_, found)| **found == sizes)
                    .count() as u64
                    == size / PAGE
        };
        let bound = mapping.last - start;
        let size = sizes_here
            .iter()
            .filter(|size| size - 1 <= bound)
            .filter(fits)
            .last();
        let size = size.unwrap_or(PAGE);
        IovaRange::new(page & !(size - 1), size)
    }

    /// The run that begins at an address, or the next one: one leaf, or private pages.
    fn next_run(&self, mut at: u64, last: u64, wants_private: bool) -> Option<vfio_pgsize_run> {
        let access = VFIO_PGSIZE_RUN_READ | VFIO_PGSIZE_RUN_WRITE;
        loop {
            let (start, mapping) = self.mapping_from(at)?;
            at = at.max(start);
            if at > last {
                return None;
            }
            if let Some(sizes) = self.pages.get(&at) {
                let leaf = self.leaf_at(at, *sizes, start, mapping);
                return Some(vfio_pgsize_run {
                    iova: leaf.iova,
                    size: leaf.size,
                    pgsize: leaf.size,
                    flags: access,
                    reserved: 0,
                });
            }
            let next = self
                .pages
                .range(at..)
                .next()
                .map_or(u64::MAX, |(page, _)| page - 1);
            let end = mapping.last.min(next).min(last);
            if wants_private {
                return Some(vfio_pgsize_run {
                    iova: at,
                    size: end - at + 1,
                    pgsize: 0,
                    flags: access | VFIO_PGSIZE_RUN_PRIVATE,
                    reserved: 0,
                });
            }
            at = end.checked_add(1)?;
        }
    }

    pub(super) fn query(
        &self,
        query: &mut vfio_pgsize_query,
        runs: &mut [vfio_pgsize_run],
    ) -> io::Result<()> {
        let last = check(IovaRange::new(query.iova, query.size))?;
        // Nothing follows the RMP.
        if query.flags & !VFIO_PGSIZE_QUERY_STATE != 0 {
            return Err(errno(libc::EOPNOTSUPP));
        }
        if runs.is_empty() {
            return Err(errno(libc::EINVAL));
        }
        if query.domain != 0 {
            return Err(errno(libc::ENOENT));
        }
        let wants_private = query.flags & VFIO_PGSIZE_QUERY_STATE != 0;
        let room = runs.len();
        let mut nr = 0;
        let mut at = Some(query.iova);
        while let Some(run) = at.and_then(|at| self.next_run(at, last, wants_private)) {
            match runs[..nr].last_mut() {
                Some(before)
                    if before.iova.checked_add(before.size) == Some(run.iova)
                        && (before.pgsize, before.flags) == (run.pgsize, run.flags) =>
                {
                    before.size += run.size;
                }
                _ if nr == room => {
                    query.iova = run.iova.max(query.iova);
                    query.size = last - query.iova + 1;
                    query.nr = nr as u32;
                    return Ok(());
                }
                _ => {
                    runs[nr] = run;
                    nr += 1;
                }
            }
            at = run.iova.checked_add(run.size).filter(|next| *next <= last);
        }
        query.size = 0;
        query.nr = nr as u32;
        Ok(())
    }
}
