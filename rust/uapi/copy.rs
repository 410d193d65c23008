// SPDX-License-Identifier: GPL-2.0

//! Copies structures from and to userspace.

#![allow(unsafe_code)]

use kernel::{
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use crate::{
    pgtable::{
        Iova,
        IovaRange,
        PAGE_BYTES, //
    },
    sys::{
        bindings,
        num::to_usize, //
    }, //
};

/// Declares structures that consist of integers without padding.
macro_rules! plain {
    ($($name:ident),* $(,)?) => {$(
        // SAFETY: All bit patterns are valid integers.
        unsafe impl FromBytes for bindings::$name {}
        // SAFETY: The structure has no padding: see the UAPI header.
        unsafe impl AsBytes for bindings::$name {}
    )*};
}

plain!(
    vfio_bitmap,
    vfio_iommu_type1_dirty_bitmap,
    vfio_iommu_type1_dirty_bitmap_get,
    vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap,
    vfio_pgsize_event,
    vfio_pgsize_policy,
    vfio_pgsize_query,
    vfio_pgsize_run,
    vfio_pgsize_set_state,
    vfio_pgsize_state,
    vfio_pgsize_stats,
);

/// Reads a structure that starts with `argsz`. Fails with `EINVAL` if `argsz` is less than its
/// size, and with `EFAULT`.
pub(crate) fn read<T: FromBytes>(user: UserPtr, argsz: impl FnOnce(&T) -> u32) -> Result<T> {
    let request = UserSlice::new(user, size_of::<T>()).reader().read::<T>()?;

    if to_usize(argsz(&request).into()) < size_of::<T>() {
        return Err(EINVAL);
    }
    Ok(request)
}

/// Reads a structure `offset` bytes after `user`. Fails with `EFAULT`.
pub(super) fn read_at<T: FromBytes>(user: UserPtr, offset: usize) -> Result<T> {
    UserSlice::new(user.wrapping_byte_add(offset), size_of::<T>())
        .reader()
        .read::<T>()
}

/// Writes a structure. Fails with `EFAULT`.
pub(crate) fn write<T: AsBytes>(user: UserPtr, answer: &T) -> Result {
    UserSlice::new(user, size_of::<T>()).writer().write(answer)
}

/// The range of `size` bytes from `iova` on. Fails with `EINVAL` unless these are whole pages, at
/// least one, and with `EOVERFLOW`.
pub(crate) fn range(iova: u64, size: u64) -> Result<IovaRange> {
    if size == 0 || (iova | size) & (PAGE_BYTES - 1) != 0 {
        return Err(EINVAL);
    }
    IovaRange::with_len(Iova::new(iova), size).ok_or(EOVERFLOW)
}
