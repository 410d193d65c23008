// SPDX-License-Identifier: GPL-2.0

//! IOMMU domains: attaching, mapping and unmapping.

#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernel::{
    error::to_result,
    prelude::*, //
};

use super::{
    access::Access,
    flush::{
        flushed,
        Flushed,
        Gather, //
    },
    group::Group,
    table::{
        Layout,
        PageTable, //
    },
    windows::Span, //
};
use crate::{
    pgtable::{
        IovaRange,
        PageSize,
        PageSizes,
        Phys, //
    },
    sys::{
        bindings,
        num::{
            to_u64,
            to_usize, //
        }, //
    }, //
};

/// IOVAs are unmapped, and looked through, in pieces of this size: between two, others may run.
pub(crate) const PIECE: PageSize = PageSize::SIZE_1G;

/// A domain, and the groups that are attached to it.
///
/// # Invariants
///
/// - `raw` is a paging domain that we own.
/// - The groups, and no others, are attached to it.
pub(crate) struct Domain {
    raw: NonNull<bindings::iommu_domain>,
    /// The leaf sizes that its format has: what `pgsize_bitmap` holds but while something is mapped.
    sizes: PageSizes,
    /// It refuses DMA that goes round the processors' caches.
    coherent: bool,
    groups: KVec<Group>,
}

// SAFETY: The IOMMU core's functions on domains may be called from any thread.
unsafe impl Send for Domain {}

impl Domain {
    /// A domain of its own for `group`, which is attached to it.
    pub(crate) fn new(group: Group) -> Result<Self> {
        let raw = group.alloc_domain()?;
        // SAFETY: `raw` is a domain that was just made.
        let sizes = unsafe { raw.as_ref() }.pgsize_bitmap;
        // INVARIANT: The domain is ours; no group is attached.
        let mut domain = Self {
            raw,
            sizes: PageSizes::from_bits(to_u64(sizes)),
            coherent: false,
            groups: KVec::new(),
        };

        domain.attach(group)?;
        Ok(domain)
    }

    /// Attaches `group` too.
    pub(crate) fn attach(&mut self, group: Group) -> Result {
        self.groups.reserve(1, GFP_KERNEL_ACCOUNT)?;
        // SAFETY: Domain and group are valid, by their invariants.
        to_result(unsafe { bindings::iommu_attach_group(self.raw.as_ptr(), group.as_ptr()) })?;
        // INVARIANT: It is attached now.
        self.groups.push(group, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Detaches `group`; says whether it was attached.
    pub(crate) fn detach(&mut self, group: Group) -> bool {
        if !self.has(group) {
            return false;
        }
        // SAFETY: Domain and group are valid, and the group is attached, by the invariants.
        unsafe { bindings::iommu_detach_group(self.raw.as_ptr(), group.as_ptr()) };
        // INVARIANT: It is attached no more.
        self.groups.retain(|other| *other != group);
        true
    }

    pub(crate) fn has(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::iommu_domain {
        self.raw.as_ptr()
    }

    pub(crate) fn raw(&self) -> NonNull<bindings::iommu_domain> {
        self.raw
    }

    /// The leaf sizes that its format has.
    pub(crate) fn sizes(&self) -> PageSizes {
        self.sizes
    }

    /// The addresses that its format and its IOMMU reach.
    pub(crate) fn aperture(&self) -> Option<Span> {
        let geometry = self.get().geometry;

        Span::new(geometry.aperture_start, geometry.aperture_end)
    }

    /// Has the IOMMU refuse DMA that is not coherent, if it can.
    pub(crate) fn enforce_coherency(&mut self) {
        if let Some(enforce) = self.ops().enforce_cache_coherency {
            // SAFETY: It is the domain's own operation.
            self.coherent = unsafe { enforce(self.raw.as_ptr()) };
        }
    }

    pub(crate) fn is_coherent(&self) -> bool {
        self.coherent
    }

    /// Whether a group of one could be in the other: of the same driver, with the same promise.
    pub(crate) fn is_compatible(&self, other: &Self) -> bool {
        core::ptr::eq(self.ops(), other.ops()) && self.coherent == other.coherent
    }

    /// Its page table, if that is of a format that we can read and edit.
    pub(crate) fn table(&self) -> Option<PageTable<'_>> {
        // SAFETY: The domain is ours, for as long as it is borrowed.
        unsafe { PageTable::of(self.raw) }
    }

    /// The same, by what was learnt of it before: nothing was mapped by [`Self::map`] since.
    pub(crate) fn table_with(&self, layout: Layout) -> PageTable<'_> {
        // SAFETY: As above. An old top is part of the table as it has grown.
        unsafe { PageTable::with_layout(self.raw, layout) }
    }

    pub(crate) fn get(&self) -> &bindings::iommu_domain {
        // SAFETY: By the type invariant. Who changes it has a `&mut Domain`.
        unsafe { self.raw.as_ref() }
    }

    pub(crate) fn ops(&self) -> &bindings::iommu_domain_ops {
        // SAFETY: A paging domain has operations, and they are the driver's, which is not unloaded.
        unsafe { &*self.get().ops }
    }

    /// Maps `range` to the frames from `phys` on, with leaves of `sizes`; all of it, or nothing.
    ///
    /// Nothing of the range is mapped. Fails with `ENOMEM`, or as the driver says.
    pub(crate) fn map(
        &mut self,
        range: IovaRange,
        phys: Phys,
        access: Access,
        sizes: PageSizes,
    ) -> Result {
        let bytes = range.bytes().ok_or(EOVERFLOW)?;

        // SAFETY: By the type invariant. The driver checks addresses and size.
        to_result(self.with_sizes(sizes, |raw| unsafe {
            bindings::iommu_map(
                raw,
                to_usize(range.start().get()),
                phys.get(),
                to_usize(bytes),
                access.prot(),
                bindings::GFP_KERNEL_ACCOUNT,
            )
        }))
    }

    /// Runs `map` while the domain says that it has no sizes but `sizes`, and the smallest. Drivers
    /// ask what sizes it has when a group is attached, too, and when something is unmapped, so it says
    /// the truth otherwise.
    fn with_sizes<R>(
        &mut self,
        sizes: PageSizes,
        map: impl FnOnce(*mut bindings::iommu_domain) -> R,
    ) -> R {
        let (sizes, all) = (self.usable(sizes), self.sizes);

        // SAFETY: The domain is ours, and nobody maps in it meanwhile.
        unsafe { self.raw.as_mut() }.pgsize_bitmap = to_usize(sizes.bits());
        let result = map(self.raw.as_ptr());
        // SAFETY: As above.
        unsafe { self.raw.as_mut() }.pgsize_bitmap = to_usize(all.bits());
        result
    }

    /// The same for memory that is in a list of contiguous runs, none of them empty, which make up `range`.
    pub(crate) fn map_list(
        &mut self,
        range: IovaRange,
        list: &mut [bindings::scatterlist],
        access: Access,
        sizes: PageSizes,
    ) -> Result {
        let entries = c_uint::try_from(list.len())?;
        // SAFETY: By the type invariant. The list has as many entries as is said, each with a page
        // and a length; no entry is a link or the end. The driver checks addresses and size.
        let mapped = self.with_sizes(sizes, |raw| unsafe {
            bindings::iommu_map_sg(
                raw,
                to_usize(range.start().get()),
                list.as_mut_ptr(),
                entries,
                access.prot(),
                bindings::GFP_KERNEL_ACCOUNT,
            )
        });
        match usize::try_from(mapped) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::from_errno(c_int::try_from(mapped)?)),
        }
    }

    /// Tells an IOMMU that remembers absences that there are leaves in `range` now.
    pub(crate) fn sync_filled(&self, range: IovaRange) {
        if let (Some(sync), Some(bytes)) = (self.ops().iotlb_sync_map, range.bytes()) {
            // It fails for nobody who can edit the page table (`amd/iommu.c:
            // amd_iommu_iotlb_sync_map`).
            // SAFETY: It is the domain's own operation.
            unsafe {
                sync(
                    self.raw.as_ptr(),
                    to_usize(range.start().get()),
                    to_usize(bytes),
                )
            };
        }
    }

    /// Those of `sizes` that the domain has, and the smallest that it has.
    pub(crate) fn usable(&self, sizes: PageSizes) -> PageSizes {
        let smallest = self
            .sizes
            .smallest()
            .map_or(PageSizes::NONE, PageSizes::only);

        self.sizes.intersect(sizes).union(smallest)
    }

    /// Runs `work`, which may take things out of the page table, then flushes the IOTLB for all that
    /// it took out.
    pub(crate) fn flushed<R>(&self, work: impl FnOnce(&mut Gather<'_>) -> R) -> (R, Flushed<'_>) {
        // SAFETY: The domain is ours.
        unsafe { flushed(self.raw, work) }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        for group in &self.groups {
            // SAFETY: Domain and group are valid, and the group is attached, by the invariants.
            unsafe { bindings::iommu_detach_group(self.raw.as_ptr(), group.as_ptr()) };
        }
        // SAFETY: The domain is ours, no group is attached, and it is not used any more.
        unsafe { bindings::iommu_domain_free(self.raw.as_ptr()) };
    }
}
