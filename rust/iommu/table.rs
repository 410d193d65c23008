// SPDX-License-Identifier: GPL-2.0

//! Page tables that we read and edit in place: AMD's host format, v1 (`drivers/iommu/generic_pt`).
//!
//! Tables come from the driver's allocator, `iommu_alloc_pages_node_sz`, and are freed with the
//! gather of its flush, so the driver can free the whole page table with the domain. generic_pt
//! requires its callers to lock ranges; the mutex of the container is that lock, for all IOVAs.

#![allow(unsafe_code)]

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    alloc::AllocError,
    prelude::*, //
};

use super::{
    access::Access,
    flush::flushed,
    table_pages::{
        DirectMap,
        NoPages,
        Pool,
        TableSource, //
    }, //
};
use crate::{
    pgtable::{
        AmdV1,
        Changes,
        ContigRun,
        Editor,
        Error as EditError,
        Extent,
        Format,
        Iova,
        IovaRange,
        Phys,
        Top,
        View, //
    },
    sys::{
        bindings,
        num::to_usize, //
    }, //
};

/// The page table of a domain.
///
/// # Invariants
///
/// `domain` is valid for `'d`, and has a page table of this format.
pub(crate) struct PageTable<'d> {
    domain: NonNull<bindings::iommu_domain>,
    layout: Layout,
    _domain: PhantomData<&'d bindings::iommu_domain>,
}

/// All supported formats. To add one, make this an `enum` that implements [`Format`], and recognize
/// its domains in [`PageTable::of`].
type TableFormat = AmdV1;

/// What [`PageTable::of`] reads of a page table. The driver may make the top grow when it maps.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    top: Top,
    format: TableFormat,
    node: c_int,
    /// The hardware may set dirty bits.
    tracked: bool,
}

impl<'d> PageTable<'d> {
    /// The page table of `domain`. `None` if it has another format, or if the hardware does not
    /// snoop the CPU caches (`PT_FEAT_DMA_INCOHERENT`). Atomic.
    ///
    /// # Safety
    ///
    /// `domain` is a paging domain, and stays valid while the result is used.
    pub(crate) unsafe fn of(domain: NonNull<bindings::iommu_domain>) -> Option<Self> {
        let translate: unsafe extern "C" fn(_, _) -> _ = bindings::pt_iommu_amdv1_iova_to_phys;
        // SAFETY: By the requirement. A paging domain has operations.
        let (is_iommupt, ops) =
            unsafe { ((*domain.as_ptr()).is_iommupt, &*(*domain.as_ptr()).ops) };

        if !is_iommupt || ops.iova_to_phys? as usize != translate as usize {
            return None;
        }
        // A `struct pt_iommu_amdv1` starts with a `struct pt_iommu`, which starts with the domain.
        let raw = domain.as_ptr().cast::<bindings::pt_iommu_amdv1>();
        // SAFETY: The domain has this format: its operations say so.
        let (features, node) = unsafe { ((*raw).amdpt.common.features, (*raw).iommu.nid) };
        let has = |feature: u32| features & 1u32.wrapping_shl(feature) != 0;
        let mut info = bindings::pt_iommu_amdv1_hw_info::default();

        if has(bindings::PT_FEAT_DMA_INCOHERENT) {
            return None;
        }
        // SAFETY: As above; `info` is valid for writes.
        unsafe { bindings::pt_iommu_amdv1_hw_info(raw, &mut info) };
        let format = if has(bindings::PT_FEAT_AMDV1_ENCRYPT_TABLES) {
            // SAFETY: It has no requirements.
            AmdV1::with_c_bit(unsafe { bindings::pgsize_sme_me_mask() }, true)?
        } else {
            AmdV1::PLAIN
        };
        let format = format.force_coherence(has(bindings::PT_FEAT_AMDV1_FORCE_COHERENCE));

        // INVARIANT: Checked above.
        Some(Self {
            domain,
            layout: Layout {
                // `mode` is the number of levels.
                top: format.top(info.host_pt_root, info.mode)?,
                format,
                node,
                // The hook does not know whether tracking is on, and assumes it.
                // SAFETY: As above.
                tracked: unsafe { !(*domain.as_ptr()).dirty_ops.is_null() },
            },
            _domain: PhantomData,
        })
    }

    /// The page table of `domain`, with a layout that was read earlier.
    ///
    /// # Safety
    ///
    /// `layout` is of the page table of `domain`, and the driver has not mapped anything since.
    /// `domain` stays valid while the result is used.
    pub(super) unsafe fn with_layout(
        domain: NonNull<bindings::iommu_domain>,
        layout: Layout,
    ) -> Self {
        // INVARIANT: By the requirement.
        Self {
            domain,
            layout,
            _domain: PhantomData,
        }
    }

    /// The same table. Dirty tracking is enabled if `tracked`: see [`Editor::tracked`].
    pub(super) fn tracked(mut self, tracked: bool) -> Self {
        self.layout.tracked = tracked;
        self
    }

    /// For [`Domain::table_with`](super::Domain::table_with).
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The NUMA node for new tables.
    pub(crate) fn node(&self) -> c_int {
        self.layout.node
    }

    /// Returns whether there is a table for 4K leaves in `range`, all of whose entries there are free.
    /// Atomic.
    pub(crate) fn has_room(&self, range: IovaRange) -> bool {
        self.edit_in_place(|editor| editor.has_room(range.start(), to_usize(range.pages())))
    }

    /// Maps `range` to `pages` with 4K leaves, in an existing table: see [`Editor::fill`], which
    /// also says what is returned. `None`: nothing was mapped.
    ///
    /// Does not notify the IOMMU: call [`Domain::sync_filled`](super::Domain::sync_filled) later.
    /// Atomic.
    pub(crate) fn fill(&self, range: IovaRange, access: Access, pages: &[Phys]) -> Option<bool> {
        let attrs = self.layout.format.attrs(access.read, access.write)?;

        if to_usize(range.pages()) != pages.len() {
            return None;
        }
        self.edit_in_place(|editor| editor.fill(range.start(), attrs, pages).ok())
    }

    /// Unmaps `range`, and calls `taken` with each page: see [`Editor::take`]. Returns whether it
    /// did.
    ///
    /// Does not flush: call [`Gather::touch`](super::Gather::touch) later. Atomic if `taken` is.
    pub(crate) fn take(&self, range: IovaRange, taken: impl FnMut(Iova, Phys)) -> bool {
        self.edit_in_place(|editor| editor.take(range, taken).is_ok())
    }

    /// Frees empty tables of `range`, a bounded number of them. Returns the part of the range that
    /// is left.
    pub(crate) fn drop_empty(&self, range: IovaRange) -> Option<IovaRange> {
        let mut rest = None;
        let (_, dropped) = self.edit_with(TableSource::Sleeping, |editor| {
            let (changes, left) = editor.drop_empty(range);
            rest = left;
            (changes, Ok(()))
        });
        // It cannot fail: it allocates nothing.
        let _ = dropped;
        rest
    }

    /// An edit that neither allocates nor frees tables.
    pub(super) fn edit_in_place<R>(
        &self,
        work: impl FnOnce(&mut Editor<'_, NoPages, TableFormat>) -> R,
    ) -> R {
        work(&mut Editor::new(
            &mut NoPages,
            self.layout.top,
            self.layout.format,
        ))
    }

    /// Reads the table. See the rules in [`pgtable`](crate::pgtable).
    pub(crate) fn view(&self) -> View<'d, DirectMap, TableFormat> {
        View::new(&DirectMap, self.layout.top, self.layout.format)
    }

    /// Edits the table, flushes the IOTLB for what changed, and then frees the retired tables.
    ///
    /// Sleeps. Fails with `ENOMEM`, and with `EIO` (logged) if an entry is unexpected; each leaf is
    /// either an old one or a wanted one.
    pub(crate) fn edit<T>(
        &self,
        work: impl FnOnce(&mut TableEditor<'_, '_, '_>) -> Edited<T>,
    ) -> Result<T> {
        let (_, result) = self.edit_with(TableSource::Sleeping, work);

        result
    }

    /// As [`Self::edit`], with tables from `source`; also returns the changes. Atomic if `source`
    /// and `work` are.
    pub(crate) fn edit_with<T>(
        &self,
        source: TableSource<'_>,
        work: impl FnOnce(&mut TableEditor<'_, '_, '_>) -> Edited<T>,
    ) -> (Changes, Result<T>) {
        // SAFETY: By the type invariant.
        let ((changes, result), _) = unsafe {
            flushed(self.domain, |gather| {
                let mut pool = Pool {
                    gather,
                    node: self.layout.node,
                    source,
                };
                let editor = Editor::new(&mut pool, self.layout.top, self.layout.format);
                let (changes, result) = work(&mut match self.layout.tracked {
                    true => editor.tracked(),
                    false => editor,
                });

                if let Some(range) = changes.touched() {
                    pool.gather.touch(range);
                }
                (changes, result)
            })
        };

        let result = result.map_err(|error| match error {
            EditError::Pages(error) => error.into(),
            EditError::Straddles(iova) | EditError::Changed(iova) => {
                // Not reached: leaves end where mappings and segments do, and the mutex excludes
                // others.
                pr_err!(
                    "unexpected entry at IOVA {:#x} in the page table\n",
                    iova.get()
                );
                EIO
            }
        });
        (changes, result)
    }

    /// Unmaps the whole leaf that covers `range`, and flushes. Atomic.
    pub(crate) fn unmap_leaf(&self, range: IovaRange) {
        // SAFETY: By the type invariant.
        unsafe { flushed(self.domain, |gather| gather.unmap(range)) };
    }

    /// The extents of `piece`. The last one includes the rest of a leaf that crosses the end of the
    /// piece, within `bounds`.
    pub(crate) fn extents_from(
        &self,
        piece: IovaRange,
        bounds: IovaRange,
    ) -> impl Iterator<Item = Extent> + 'd {
        let view = self.view();

        view.extents(piece).map(move |extent| {
            let on = (extent.range.last() == piece.last())
                .then(|| view.leaf_at(piece.last())?.range().intersect(bounds))
                .flatten();
            Extent {
                range: on.map_or(extent.range, |on| extent.range.hull(on)),
                ..extent
            }
        })
    }

    /// See [`Domain::contig_runs`](super::Domain::contig_runs).
    pub(crate) fn contig_runs(
        &self,
        piece: IovaRange,
        bounds: IovaRange,
        found: &mut KVVec<ContigRun>,
    ) {
        for extent in self.extents_from(piece, bounds) {
            let contig = ContigRun {
                range: extent.range,
                phys: extent.phys,
            };
            if found.push_within_capacity(contig).is_err() {
                return;
            }
        }
    }
}

/// An editor with tables from a [`Pool`].
type TableEditor<'e, 'p, 'd> = Editor<'e, Pool<'p, 'd>, TableFormat>;

/// Changes and result of an edit.
type Edited<T> = (Changes, Result<T, EditError<AllocError>>);
