// SPDX-License-Identifier: GPL-2.0

//! One joined mapping: the pieces of a process's memory within a gigabyte of IOVAs that are mapped alike.

use kernel::sync::Arc;

use super::pieces::{
    Pages,
    Pieces, //
};
use crate::{
    iommu::Access,
    mm::{
        Locked,
        UserAddr, //
    },
    pgtable::{
        Iova,
        IovaRange,
        PageSize,
        PAGE_BYTES, //
    }, //
};

/// What a joined mapping spans.
pub(super) const BLOCK: PageSize = PageSize::SIZE_1G;

/// Memory that is mapped alike, or to be: a piece, several of them, or what lies between them.
#[derive(Clone)]
pub(crate) struct Part {
    /// The IOVA range.
    pub(crate) range: IovaRange,
    /// Where the process has the memory of `range.start()`.
    pub(crate) memory: UserAddr,
    /// DMA permissions.
    pub(crate) access: Access,
    /// Who pays.
    pub(crate) locked: Arc<Locked>,
}

/// How what is joined is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grain {
    /// As far as nothing else is mapped: there may be holes.
    Spans,
    /// As far as it is mapped.
    Runs,
    /// Piece by piece.
    Pieces,
}

/// One entry.
///
/// # Invariants
///
/// `block` is an aligned block of [`BLOCK`].
pub(super) struct Joined {
    /// Where its pieces may be.
    pub(super) block: IovaRange,
    /// Where the process would have the memory of the block's start.
    memory: UserAddr,
    access: Access,
    /// Who pays.
    pub(super) locked: Arc<Locked>,
    /// The pieces.
    pub(super) pieces: Pieces,
}

impl Joined {
    /// None yet, but for what is mapped like `piece`.
    pub(super) fn of(piece: &Part) -> Self {
        let block = IovaRange::block(piece.range.start(), BLOCK);

        Self {
            block,
            memory: memory_of_block(piece),
            access: piece.access,
            locked: piece.locked.clone(),
            pieces: Pieces::new(),
        }
    }

    /// Whether `piece` can be a part of it.
    pub(super) fn takes(&self, piece: &Part) -> bool {
        self.block.covers(piece.range)
            && self.memory == memory_of_block(piece)
            && self.access == piece.access
            && Arc::ptr_eq(&self.locked, &piece.locked)
    }

    /// The pages of `range` that are in the block.
    pub(super) fn pages_of(&self, range: IovaRange) -> Option<Pages> {
        let here = self.block.intersect(range)?;
        let page = |iova: Iova| (iova.above(self.block.start()) / PAGE_BYTES) as usize;

        Some(Pages {
            first: page(here.start()),
            last: page(here.last()),
        })
    }

    pub(super) fn range_of(&self, pages: Pages) -> Option<IovaRange> {
        let at = |page: usize| {
            let bytes = (page as u64).wrapping_mul(PAGE_BYTES);
            self.block.start().checked_add(bytes)
        };

        Some(
            IovaRange::block(at(pages.first)?, PageSize::SIZE_4K)
                .hull(IovaRange::block(at(pages.last)?, PageSize::SIZE_4K)),
        )
    }

    /// The start of a page.
    fn start_of(&self, page: usize) -> Option<Iova> {
        let pages = Pages {
            first: page,
            last: page,
        };

        self.range_of(pages).map(IovaRange::start)
    }

    /// The first page in `range` that is mapped.
    pub(super) fn next_mapped(&self, range: IovaRange) -> Option<Iova> {
        self.start_of(self.pieces.first_in(self.pages_of(range)?)?)
    }

    /// The last page in `range` that is mapped.
    pub(super) fn last_mapped(&self, range: IovaRange) -> Option<Iova> {
        self.start_of(self.pieces.last_in(self.pages_of(range)?)?)
    }

    /// The page from which on it goes to `page`, which is mapped: not [`Grain::Spans`].
    pub(super) fn first_to(&self, page: Iova, grain: Grain) -> Option<Iova> {
        let page = self
            .pages_of(IovaRange::block(page, PageSize::SIZE_4K))?
            .first;
        let first = match grain {
            Grain::Spans => return None,
            Grain::Runs => self.pieces.first_mapped(page),
            Grain::Pieces => self.pieces.first_of_piece(page),
        };

        self.start_of(first)
    }

    /// How far it goes from `iova` on, which is mapped, if nobody else is in the way.
    pub(super) fn last_from(&self, iova: Iova, grain: Grain) -> Option<Iova> {
        let first = self
            .pages_of(IovaRange::block(iova, PageSize::SIZE_4K))?
            .first;
        let last = match grain {
            Grain::Spans => return Some(self.block.last()),
            Grain::Runs => self.pieces.last_mapped(first),
            Grain::Pieces => self.pieces.last_of_piece(first),
        };

        self.range_of(Pages { first, last }).map(IovaRange::last)
    }

    pub(super) fn part(&self, range: IovaRange) -> Part {
        let pages = range.start().above(self.block.start()) / PAGE_BYTES;

        Part {
            range,
            memory: self.memory.after(pages),
            access: self.access,
            locked: self.locked.clone(),
        }
    }
}

/// Where the process would have the memory of the start of the block that a piece lies in.
fn memory_of_block(piece: &Part) -> UserAddr {
    let start = piece.range.start();
    let pages = start.above(start.align_down(BLOCK)) / PAGE_BYTES;

    piece.memory.after(pages.wrapping_neg())
}
