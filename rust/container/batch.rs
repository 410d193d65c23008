// SPDX-License-Identifier: GPL-2.0

//! Batches of pinned runs, which are mapped with one call.
//!
//! A call of the driver's map costs as much as hundreds of leaves, and more if the IOMMU needs a
//! flush after map. So runs are collected: up to [`RUNS`] of them, up to [`PIECE`] bytes, or up to
//! the end of a segment.

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

/// Maximum number of runs in a batch.
const RUNS: usize = 512;

/// Buffers for a batch.
pub(crate) struct Buffers {
    runs: KVVec<PinnedRun>,
    list: KVVec<bindings::scatterlist>,
}

// SAFETY: Empty between two uses.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            runs: KVVec::with_capacity(RUNS, GFP_KERNEL_ACCOUNT)?,
            list: KVVec::with_capacity(RUNS, GFP_KERNEL_ACCOUNT)?,
        })
    }
}

/// Pinned runs that are adjacent in IOVA, within one segment, and not mapped yet. Dropping it
/// unpins them.
pub(super) struct Batch<'b> {
    buffers: &'b mut Buffers,
    range: Option<IovaRange>,
}

impl<'b> Batch<'b> {
    /// An empty batch.
    pub(crate) fn new(buffers: &'b mut Buffers) -> Self {
        Self {
            buffers,
            range: None,
        }
    }

    /// Whether another run fits.
    pub(super) fn has_room(&self) -> bool {
        let mapped = self.range.map_or(0, IovaRange::pages);

        self.buffers.runs.len() < RUNS && mapped < PIECE.pages()
    }

    /// Whether `run`, with leaves of `rule`, may be in a batch. It may not if it is no memory, if
    /// it is followed, or if it is large enough to be mapped by itself.
    pub(super) fn suits(run: &PinnedRun, rule: Rule) -> bool {
        let small = run.pages() < PageSize::SIZE_2M.pages();
        let large_leaves = rule.sizes != rule.sizes.below(PageSize::SIZE_2M) && !rule.follows();

        run.kind() == Kind::Memory && run.pages() < PIECE.pages() && (small || large_leaves)
    }

    /// Appends `run`, which [suits](Self::suits), to be mapped at `range`, behind all others. Fails
    /// with `EINVAL` or `EOVERFLOW` if it is too long.
    pub(crate) fn push(&mut self, range: IovaRange, run: PinnedRun) -> Result {
        let entry = bindings::scatterlist {
            // The pointer is aligned: the low bits say that the entry is neither a chain nor the
            // end.
            page_link: to_usize(page_at(run.phys())),
            length: u32::try_from(range.bytes().ok_or(EINVAL)?)?,
            ..Default::default()
        };

        self.buffers.list.push(entry, GFP_KERNEL_ACCOUNT)?;
        self.buffers.runs.push(run, GFP_KERNEL_ACCOUNT)?;
        self.range = Some(self.range.map_or(range, |before| before.hull(range)));
        Ok(())
    }

    /// Maps the batch in all domains with leaves of `sizes`, or in none and unpins it. Returns the
    /// range.
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

    /// Calls `work` with each run instead of mapping it. If it fails, unpins the remaining runs.
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

/// Maps `range` in all domains by calling `map`. If one fails, unmaps it in the others.
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
