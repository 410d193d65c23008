// SPDX-License-Identifier: GPL-2.0

//! Runs on their way from the process to the page tables: many small ones go with one call.
//!
//! A call to map costs as much as hundreds of leaves, and more where the IOMMU wants a flush after
//! it. So runs are gathered up to [`RUNS`] of them, to [`PIECE`], or to the end of a segment, and
//! mapped together.

#![allow(unsafe_code)]

use kernel::prelude::*;

use crate::{
    iommu::{
        Access,
        PIECE, //
    },
    mm::{
        page_at,
        Kind,
        PinnedRun, //
    },
    pgtable::{
        IovaRange,
        PageSize,
        PageSizes, //
    },
    policy::Rule,
    rmp::Domain,
    sys::{
        bindings,
        num::to_usize, //
    }, //
};

/// Runs that are mapped together, at most.
const RUNS: usize = 512;

/// Room for a batch. One serves a container.
pub(crate) struct Buffers {
    runs: KVVec<PinnedRun>,
    list: KVVec<bindings::scatterlist>,
}

// SAFETY: Between two uses it holds nothing.
unsafe impl Send for Buffers {}

impl Buffers {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            runs: KVVec::with_capacity(RUNS, GFP_KERNEL_ACCOUNT)?,
            list: KVVec::with_capacity(RUNS, GFP_KERNEL_ACCOUNT)?,
        })
    }
}

/// Runs that follow one another in IOVA, of one segment, pinned and not yet mapped.
///
/// Those that are left when it is dropped are unpinned.
pub(super) struct Batch<'b> {
    buffers: &'b mut Buffers,
    range: Option<IovaRange>,
}

impl<'b> Batch<'b> {
    pub(crate) fn new(buffers: &'b mut Buffers) -> Self {
        Self {
            buffers,
            range: None,
        }
    }

    /// Whether there is room for one more run.
    pub(super) fn has_room(&self) -> bool {
        let mapped = self.range.map_or(0, IovaRange::pages);

        self.buffers.runs.len() < RUNS && mapped < PIECE.pages()
    }

    /// Whether `run`, which is to have leaves of `rule`, goes with others: memory, unless it is as
    /// well mapped by itself, or is followed.
    pub(super) fn suits(run: &PinnedRun, rule: Rule) -> bool {
        let small = run.pages() < PageSize::SIZE_2M.pages();
        let large_leaves = rule.sizes != rule.sizes.below(PageSize::SIZE_2M) && !rule.follows();

        run.kind() == Kind::Memory && run.pages() < PIECE.pages() && (small || large_leaves)
    }

    /// Takes in `run`, which [suits](Self::suits) and is to be mapped at `range`, behind all others.
    pub(crate) fn push(&mut self, range: IovaRange, run: PinnedRun) -> Result {
        let entry = bindings::scatterlist {
            // An aligned pointer: the low bits say that this is neither a link nor the end.
            page_link: to_usize(page_at(run.phys())),
            length: u32::try_from(range.bytes().ok_or(EINVAL)?)?,
            ..Default::default()
        };

        self.buffers.list.push(entry, GFP_KERNEL_ACCOUNT)?;
        self.buffers.runs.push(run, GFP_KERNEL_ACCOUNT)?;
        self.range = Some(self.range.map_or(range, |before| before.hull(range)));
        Ok(())
    }

    /// Maps all that is here in all domains, with leaves of `sizes`; or in none, and unpins it.
    ///
    /// Returns where it mapped.
    pub(crate) fn map(
        &mut self,
        domains: &mut [Domain],
        access: Access,
        sizes: PageSizes,
    ) -> Result<Option<IovaRange>> {
        let Some(range) = self.range.take() else {
            return Ok(None);
        };
        let list = &mut self.buffers.list;

        let result = map_in_all(domains, range, |domain| {
            domain.map_list(range, list, access, sizes)
        });
        match result {
            Ok(()) => self.buffers.runs.drain_all().for_each(PinnedRun::keep),
            Err(_) => {
                let runs = self.buffers.runs.iter_mut();
                runs.for_each(|run| run.was_mapped(access.write));
            }
        }
        self.clear();
        result.map(|()| Some(range))
    }

    /// Has `work` done with each run, at its IOVAs, instead. Those behind one that fails are unpinned.
    pub(super) fn drain(&mut self, mut work: impl FnMut(IovaRange, PinnedRun) -> Result) -> Result {
        let mut left = self.range.take();

        self.buffers.list.clear();
        for run in self.buffers.runs.drain_all() {
            let todo = left.ok_or(EFAULT)?;
            let here = run.range_from(todo.start()).ok_or(EFAULT)?;
            work(here, run)?;
            left = todo.behind(here.last());
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.buffers.list.clear();
        self.buffers.runs.clear();
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Has each domain map `range`; if one fails, those before it unmap it again.
pub(super) fn map_in_all(
    domains: &mut [Domain],
    range: IovaRange,
    mut map: impl FnMut(&mut Domain) -> Result,
) -> Result {
    for index in 0..domains.len() {
        let Some(domain) = domains.get_mut(index) else {
            break;
        };
        if let Err(error) = map(domain) {
            for before in domains.iter_mut().take(index) {
                before.unmap_present(range);
            }
            return Err(error);
        }
    }
    Ok(())
}
