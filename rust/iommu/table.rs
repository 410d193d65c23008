// SPDX-License-Identifier: GPL-2.0

//! Domains whose page tables we read and edit ourselves: AMD's host format, v1.
//!
//! The driver's own tables are used in place (`drivers/iommu/generic_pt`): tables come from the
//! driver's allocator and go with its flush, so that it frees them as its own when the domain goes.
//! The container's mutex is the lock that generic_pt asks of its callers, for the whole range.

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

/// The page table of a domain, of AMD's host format.
///
/// # Invariants
///
/// `domain` is valid for `'d`, and has such a page table.
pub(crate) struct PageTable<'d> {
    domain: NonNull<bindings::iommu_domain>,
    layout: Layout,
    _domain: PhantomData<&'d bindings::iommu_domain>,
}

/// The formats that page tables may have here: one. Another makes it an `enum`, which is a
/// [`Format`], too; then [`PageTable::of`] tells them apart.
type TableFormat = AmdV1;

/// What is known of a page table. Its top grows as the driver maps.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    top: Top,
    format: TableFormat,
    node: c_int,
}

impl<'d> PageTable<'d> {
    /// The page table of `domain`; `None` if it is of any other format, or is one that the hardware
    /// does not read through the processors' caches. Atomic.
    ///
    /// # Safety
    ///
    /// `domain` is a paging domain, and stays valid as long as the result is used.
    pub(crate) unsafe fn of(domain: NonNull<bindings::iommu_domain>) -> Option<Self> {
        let translate: unsafe extern "C" fn(_, _) -> _ = bindings::pt_iommu_amdv1_iova_to_phys;
        // SAFETY: By the requirement; a paging domain has operations.
        let (is_iommupt, ops) =
            unsafe { ((*domain.as_ptr()).is_iommupt, &*(*domain.as_ptr()).ops) };

        if !is_iommupt || ops.iova_to_phys? as usize != translate as usize {
            return None;
        }
        // A `struct pt_iommu_amdv1` begins with a `struct pt_iommu`, and that with the domain.
        let raw = domain.as_ptr().cast::<bindings::pt_iommu_amdv1>();
        // SAFETY: The domain is of this format: it has its operations.
        let (features, node) = unsafe { ((*raw).amdpt.common.features, (*raw).iommu.nid) };
        let has = |feature: u32| features & 1u32.wrapping_shl(feature) != 0;
        let mut info = bindings::pt_iommu_amdv1_hw_info::default();

        if has(bindings::PT_FEAT_DMA_INCOHERENT) {
            return None;
        }
        // SAFETY: As above; `info` is valid for writing.
        unsafe { bindings::pt_iommu_amdv1_hw_info(raw, &mut info) };
        let format = if has(bindings::PT_FEAT_AMDV1_ENCRYPT_TABLES) {
            // SAFETY: It has no requirements.
            AmdV1::with_c_bit(unsafe { bindings::pgsize_sme_me_mask() }, true)?
        } else {
            AmdV1::PLAIN
        };
        let format = format.force_coherence(has(bindings::PT_FEAT_AMDV1_FORCE_COHERENCE));

        // INVARIANT: As just seen.
        Some(Self {
            domain,
            layout: Layout {
                // Its mode is the number of its levels.
                top: format.top(info.host_pt_root, info.mode)?,
                format,
                node,
            },
            _domain: PhantomData,
        })
    }

    /// The same, by what was learnt of it before.
    ///
    /// # Safety
    ///
    /// `layout` is of the page table of `domain`, which stays valid as long as the result is used,
    /// and nothing was mapped by the driver since.
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

    /// What is known of it.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Where memory for it is to come from.
    pub(crate) fn node(&self) -> c_int {
        self.layout.node
    }

    /// Maps `range` to `pages` with leaves of 4K, if there is a table for them, all of whose entries
    /// are free: else they are not asked for. Says whether the block of 2M around may be whole now.
    /// Nothing is flushed: [`Domain::sync_filled`] is for later.
    pub(crate) fn fill<'a>(
        &self,
        range: IovaRange,
        access: Access,
        pages: impl FnOnce() -> Option<&'a [Phys]>,
    ) -> Option<bool> {
        let count = to_usize(range.pages());
        let attrs = self.layout.format.attrs(access.read, access.write)?;

        self.edit_pages(|editor| editor.fill(range.start(), count, attrs, pages).ok())
    }

    /// Unmaps `range`, if it has leaves of 4K alone, all in one table, and calls `taken` with each.
    /// Says whether it did. Nothing is flushed: [`Gather::touch`] is for later.
    pub(crate) fn take(&self, range: IovaRange, taken: impl FnMut(Iova, Phys)) -> bool {
        self.edit_pages(|editor| editor.take(range, taken).is_ok())
    }

    /// Frees tables of `range` in which there is nothing, some at a time. Returns what is left to do.
    pub(crate) fn drop_empty(&self, range: IovaRange) -> Option<IovaRange> {
        let mut rest = None;
        let (_, dropped) = self.edit_with(TableSource::Sleeping, |editor| {
            let (changes, left) = editor.drop_empty(range);
            rest = left;
            (changes, Ok(()))
        });
        // It allocates nothing.
        let _ = dropped;
        rest
    }

    /// An edit for which no table comes or goes.
    fn edit_pages<R>(&self, work: impl FnOnce(&mut Editor<'_, NoPages, TableFormat>) -> R) -> R {
        work(&mut Editor::new(
            &mut NoPages,
            self.layout.top,
            self.layout.format,
        ))
    }

    /// The table, to be read as long as the domain is borrowed.
    pub(crate) fn view(&self) -> View<'d, DirectMap, TableFormat> {
        View::new(&DirectMap, self.layout.top, self.layout.format)
    }

    /// Edits the table, flushes the IOTLB where that changed anything, and then frees the tables
    /// that were taken out.
    ///
    /// Fails with `ENOMEM`; each leaf is then as it was or as it was to be.
    pub(crate) fn edit<T>(
        &self,
        work: impl FnOnce(&mut TableEditor<'_, '_, '_>) -> Edited<T>,
    ) -> Result<T> {
        let (_, result) = self.edit_with(TableSource::Sleeping, work);

        result
    }

    /// The same, with tables of that kind of memory; atomic, if it is and `work` is. Tells what was
    /// changed, too.
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
                let (changes, result) = work(&mut Editor::new(
                    &mut pool,
                    self.layout.top,
                    self.layout.format,
                ));

                if let Some(range) = changes.touched() {
                    pool.gather.touch(range);
                }
                (changes, result)
            })
        };

        let result = result.map_err(|error| match error {
            EditError::Pages(error) => error.into(),
            EditError::Straddles(iova) | EditError::Changed(iova) => {
                // Leaves end where mappings and segments do, and the mutex keeps others out.
                pr_err!(
                    "unexpected entry at IOVA {:#x} in the page table\n",
                    iova.get()
                );
                EIO
            }
        });
        (changes, result)
    }

    /// Takes the leaf that holds all of `range` out, whole. Atomic.
    pub(crate) fn unmap_leaf(&self, range: IovaRange) {
        // SAFETY: By the type invariant.
        unsafe { flushed(self.domain, |gather| gather.unmap(range)) };
    }

    /// What of `piece` is mapped, with all of a leaf that goes on behind it, within `bounds`.
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

    /// See [`Domain::contig_runs`].
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

/// Edits a table with such a pool.
type TableEditor<'e, 'p, 'd> = Editor<'e, Pool<'p, 'd>, TableFormat>;

/// What an edit did, and how it ended.
type Edited<T> = (Changes, Result<T, EditError<AllocError>>);
