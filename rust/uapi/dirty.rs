// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_DIRTY_PAGES`, and `VFIO_IOMMU_UNMAP_DMA` with `GET_DIRTY_BITMAP`: as type1 has them, with
//! its checks in its order.

use kernel::{
    prelude::*,
    uaccess::UserPtr, //
};

use super::copy::{
    range,
    read_at, //
};
use crate::{
    container::{
        Answer,
        Container,
        Kind,
        Missing,
        Piece, //
    },
    mm::{
        fetch,
        may_be_there,
        put_words, //
    },
    pgtable::PAGE_BYTES,
    sys::{
        bindings,
        num::{
            to_u64,
            to_usize, //
        }, //
    }, //
};

/// Maximum size of a bitmap in bytes: of 2^31 - 1 pages.
pub(super) const MOST_BYTES: u64 = 1 << 28;

/// A bitmap of userspace.
struct UserBitmap {
    address: usize,
}

impl UserBitmap {
    /// The bitmap of `said`, for `bytes` of IOVA. Checks all but the page size, which type1 checks later.
    fn new(said: &bindings::vfio_bitmap, bytes: u64) -> Result<Self> {
        let address = said.data.addr();

        if !may_be_there(address, to_usize(said.size)) {
            return Err(EINVAL);
        }
        let pages = bytes.checked_shr(said.pgsize.trailing_zeros()).unwrap_or(0);
        let needed = pages
            .div_ceil(u64::from(u64::BITS))
            .saturating_mul(to_u64(size_of::<u64>()));
        if pages == 0 || said.size == 0 || said.size > MOST_BYTES || said.size < needed {
            return Err(EINVAL);
        }
        Ok(Self { address })
    }

    /// The address of a word.
    fn at(&self, word: usize) -> usize {
        self.address
            .wrapping_add(word.wrapping_mul(size_of::<u64>()))
    }
}

impl Answer for UserBitmap {
    fn put(&mut self, piece: &Piece) -> core::result::Result<(), Missing> {
        for run in piece.words() {
            let address = self.at(run.first);

            if !put_words(address, run.words, run.keep) {
                return Err(Missing {
                    address,
                    bytes: size_of_val(run.words),
                });
            }
        }
        Ok(())
    }

    fn fetch(&mut self, missing: Missing) -> Result {
        fetch(missing.address, missing.bytes)
    }
}

/// Only the smallest page size has a bitmap.
fn check_page_size(bitmap: &bindings::vfio_bitmap) -> Result {
    if bitmap.pgsize != PAGE_BYTES {
        return Err(EINVAL);
    }
    Ok(())
}

/// `VFIO_IOMMU_DIRTY_PAGES`.
pub(super) fn dirty_pages(container: &Container, user: UserPtr) -> Result {
    const HEAD: usize = size_of::<bindings::vfio_iommu_type1_dirty_bitmap>();
    const WHOLE: usize = HEAD + size_of::<bindings::vfio_iommu_type1_dirty_bitmap_get>();

    // As type1, before anything is read.
    if container.kind == Kind::Type1 {
        return Err(EACCES);
    }
    let request: bindings::vfio_iommu_type1_dirty_bitmap = read_at(user, 0)?;
    let argsz = to_usize(request.argsz.into());

    if argsz < HEAD {
        return Err(EINVAL);
    }
    match request.flags {
        bindings::VFIO_IOMMU_DIRTY_PAGES_FLAG_START => container.track(true),
        bindings::VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP => container.track(false),
        bindings::VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP if argsz >= WHOLE => {
            let wanted: bindings::vfio_iommu_type1_dirty_bitmap_get = read_at(user, HEAD)?;

            if wanted.size == 0 {
                return Err(EINVAL);
            }
            wanted
                .iova
                .checked_add(wanted.size.wrapping_sub(1))
                .ok_or(EOVERFLOW)?;
            let mut bitmap = UserBitmap::new(&wanted.bitmap, wanted.size)?;
            check_page_size(&wanted.bitmap)?;
            container.read_dirty(range(wanted.iova, wanted.size)?, &mut bitmap)
        }
        _ => Err(EINVAL),
    }
}

/// `VFIO_IOMMU_UNMAP_DMA` with `GET_DIRTY_BITMAP` alone. Returns how many bytes were unmapped.
pub(super) fn unmap(
    container: &Container,
    user: UserPtr,
    request: &bindings::vfio_iommu_type1_dma_unmap,
) -> Result<u64> {
    const HEAD: usize = size_of::<bindings::vfio_iommu_type1_dma_unmap>();
    const WHOLE: usize = HEAD + size_of::<bindings::vfio_bitmap>();

    if to_usize(request.argsz.into()) < WHOLE {
        return Err(EINVAL);
    }
    let said: bindings::vfio_bitmap = read_at(user, HEAD)?;
    let mut bitmap = UserBitmap::new(&said, request.size)?;
    let range = range(request.iova, request.size)?;

    check_page_size(&said)?;
    container.unmap_dirty(range, &mut bitmap)
}
