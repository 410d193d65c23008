// SPDX-License-Identifier: GPL-2.0

//! IOMMU domains: attach and map.

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

/// Long ranges are unmapped and read in pieces of this size, with a scheduling point after each.
pub(crate) const PIECE: PageSize = PageSize::SIZE_1G;

/// A domain, and the groups that are attached to it.
///
/// # Invariants
///
/// - `raw` is a paging domain that we own.
/// - Exactly `groups` are attached to it.
pub(crate) struct Domain {
    raw: NonNull<bindings::iommu_domain>,
    /// The leaf sizes of its format. `pgsize_bitmap` is the same, except within
    /// [`Self::with_sizes`].
    sizes: PageSizes,
    /// The IOMMU enforces cache coherency (`IOMMU_CAP_ENFORCE_CACHE_COHERENCY`).
    coherent: bool,
    /// Dirty tracking is enabled.
    pub(super) tracking: bool,
    groups: KVec<Group>,
}

// SAFETY: The IOMMU core allows calls on a domain from any thread.
unsafe impl Send for Domain {}

impl Domain {
    /// Creates a domain for `group`, and attaches the group. Sleeps. Fails as the IOMMU core.
    pub(crate) fn new(group: Group) -> Result<Self> {
        let raw = group.alloc_domain()?;
        // SAFETY: `raw` is a new domain, which nothing else uses.
        let sizes = unsafe { raw.as_ref() }.pgsize_bitmap;
        // INVARIANT: The domain is ours and no group is attached.
        let mut domain = Self {
            raw,
            sizes: PageSizes::from_bits(to_u64(sizes)),
            coherent: false,
            tracking: false,
            groups: KVec::new(),
        };

        domain.attach(group)?;
        Ok(domain)
    }

    /// Attaches `group`. Sleeps. Fails with `ENOMEM` and as `iommu_attach_group`.
    pub(crate) fn attach(&mut self, group: Group) -> Result {
        self.groups.reserve(1, GFP_KERNEL_ACCOUNT)?;
        // SAFETY: Domain and group are valid, by their invariants.
        to_result(unsafe { bindings::iommu_attach_group(self.raw.as_ptr(), group.as_ptr()) })?;
        // INVARIANT: The group is attached.
        self.groups.push(group, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Detaches `group`. Returns whether it was attached. Sleeps.
    pub(crate) fn detach(&mut self, group: Group) -> bool {
        if !self.has(group) {
            return false;
        }
        // SAFETY: Domain and group are valid, and the group is attached, by the invariants.
        unsafe { bindings::iommu_detach_group(self.raw.as_ptr(), group.as_ptr()) };
        // INVARIANT: The group is detached.
        self.groups.retain(|other| *other != group);
        true
    }

    /// Whether `group` is attached.
    pub(crate) fn has(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    /// The attached groups.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The kernel's domain, as VFIO wants it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::iommu_domain {
        self.raw.as_ptr()
    }

    /// The kernel's domain.
    pub(crate) fn raw(&self) -> NonNull<bindings::iommu_domain> {
        self.raw
    }

    /// The leaf sizes of its format.
    pub(crate) fn sizes(&self) -> PageSizes {
        self.sizes
    }

    /// The address range that the format and the IOMMU support.
    pub(crate) fn aperture(&self) -> Option<Span> {
        let geometry = self.get().geometry;

        Span::new(geometry.aperture_start, geometry.aperture_end)
    }

    /// Makes the IOMMU enforce cache coherency, if it can. Only before anything is mapped.
    pub(crate) fn enforce_coherency(&mut self) {
        if let Some(enforce) = self.ops().enforce_cache_coherency {
            // SAFETY: The operation belongs to the domain.
            self.coherent = unsafe { enforce(self.raw.as_ptr()) };
        }
    }

    /// Whether the IOMMU enforces cache coherency.
    pub(crate) fn is_coherent(&self) -> bool {
        self.coherent
    }

    /// Whether the IOMMU has dirty bits. Such a domain was allocated for dirty tracking.
    pub(crate) fn can_track(&self) -> bool {
        !self.get().dirty_ops.is_null()
    }

    /// Whether groups of `other` may join this domain: same driver, same coherency, and both or
    /// neither with dirty bits.
    pub(crate) fn is_compatible(&self, other: &Self) -> bool {
        core::ptr::eq(self.ops(), other.ops())
            && self.coherent == other.coherent
            && self.can_track() == other.can_track()
    }

    /// The page table, if its format is supported for read and edit.
    pub(crate) fn table(&self) -> Option<PageTable<'_>> {
        // SAFETY: The domain lives as long as the borrow.
        let table = unsafe { PageTable::of(self.raw) }?;

        Some(table.tracked(self.tracking))
    }

    /// The page table, without reading its layout again. [`Self::map`] may not have been called
    /// since [`PageTable::layout`].
    pub(crate) fn table_with(&self, layout: Layout) -> PageTable<'_> {
        // SAFETY: As above. If the top grew, the old top is a part of the table.
        unsafe { PageTable::with_layout(self.raw, layout) }
    }

    /// The kernel's domain. Read only.
    pub(crate) fn get(&self) -> &bindings::iommu_domain {
        // SAFETY: By the type invariant. Writers have a `&mut Domain`.
        unsafe { self.raw.as_ref() }
    }

    /// The driver's operations.
    pub(crate) fn ops(&self) -> &bindings::iommu_domain_ops {
        // SAFETY: A paging domain has operations; the driver is not unloaded while the domain
        // exists.
        unsafe { &*self.get().ops }
    }

    /// Maps `range` to the frames from `phys` on, with leaves of `sizes` or of the smallest size.
    /// All or nothing. Nothing of the range may be mapped.
    ///
    /// Sleeps. Fails with `ENOMEM`, or as the driver's map.
    pub(crate) fn map(
        &mut self,
        range: IovaRange,
        phys: Phys,
        access: Access,
        sizes: PageSizes,
    ) -> Result {
        let bytes = range.bytes().ok_or(EOVERFLOW)?;

        // SAFETY: By the type invariant. `iommu_map` checks the addresses and the size.
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

    /// Calls `map` with `pgsize_bitmap` restricted to `sizes` and the smallest size. The driver
    /// reads the bitmap on attach and unmap, too, so it is restored afterwards.
    fn with_sizes<R>(
        &mut self,
        sizes: PageSizes,
        map: impl FnOnce(*mut bindings::iommu_domain) -> R,
    ) -> R {
        let (sizes, all) = (self.usable(sizes), self.sizes);

        // SAFETY: The domain is ours, and `&mut self` excludes other users of the bitmap.
        unsafe { self.raw.as_mut() }.pgsize_bitmap = to_usize(sizes.bits());
        let result = map(self.raw.as_ptr());
        // SAFETY: As above.
        unsafe { self.raw.as_mut() }.pgsize_bitmap = to_usize(all.bits());
        result
    }

    /// Maps `range` to the memory in `list`, whose entries are not empty and add up to the range.
    /// Otherwise as [`Self::map`].
    pub(crate) fn map_list(
        &mut self,
        range: IovaRange,
        list: &mut [bindings::scatterlist],
        access: Access,
        sizes: PageSizes,
    ) -> Result {
        let entries = c_uint::try_from(list.len())?;
        // SAFETY: By the type invariant. `list` has `entries` entries with a page and a length
        // each, no chain entry and no end mark. `iommu_map_sg` checks the addresses and the size.
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

    /// Notifies an IOMMU that caches absent entries of new leaves in `range`. See
    /// [`PageTable::fill`].
    pub(crate) fn sync_filled(&self, range: IovaRange) {
        if let (Some(sync), Some(bytes)) = (self.ops().iotlb_sync_map, range.bytes()) {
            // It cannot fail where the page table can be edited (`amd/iommu.c:
            // amd_iommu_iotlb_sync_map`).
            // SAFETY: The operation belongs to the domain.
            unsafe {
                sync(
                    self.raw.as_ptr(),
                    to_usize(range.start().get()),
                    to_usize(bytes),
                )
            };
        }
    }

    /// The sizes of `sizes` that the domain supports, and its smallest size.
    pub(crate) fn usable(&self, sizes: PageSizes) -> PageSizes {
        let smallest = self
            .sizes
            .smallest()
            .map_or(PageSizes::NONE, PageSizes::only);

        self.sizes.intersect(sizes).union(smallest)
    }

    /// Calls `work`, which may unmap through the [`Gather`], then flushes the IOTLB for what it
    /// unmapped. Atomic if `work` is.
    pub(crate) fn flushed<R>(&self, work: impl FnOnce(&mut Gather<'_>) -> R) -> (R, Flushed<'_>) {
        // SAFETY: The domain lives as long as the borrow.
        unsafe { flushed(self.raw, work) }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        for group in &self.groups {
            // SAFETY: Domain and group are valid, and the group is attached, by the invariants.
            unsafe { bindings::iommu_detach_group(self.raw.as_ptr(), group.as_ptr()) };
        }
        // SAFETY: The domain is ours, no group is attached, and it is not used again.
        unsafe { bindings::iommu_domain_free(self.raw.as_ptr()) };
    }
}
