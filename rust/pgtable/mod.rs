// SPDX-License-Identifier: GPL-2.0

//! Reading and reshaping IOMMU page tables, without a moment in which a translation is missing.
//!
//! This is arithmetic on tables and nothing else: it uses `core` alone, and is built and tested on
//! the host as well as in the kernel. It maps and unmaps nothing but single pages (the IOMMU driver
//! does), takes no lock, and reaches memory only by the traits [`Tables`] and [`TablePages`].
//!
//! # Words
//!
//! - *entry*: 64 bits of a table. *table*: a page of 512 entries, of a *level* from 0 (entries of
//!   4K) to 5. *top*: the table that the IOMMU starts from.
//! - *leaf*: what translates a block of IOVA. It starts at a multiple of its size, in IOVA and in
//!   physical memory. It is one entry, or a *run* of equal entries.
//! - *marks*: accessed and dirty, which the hardware may set. *attrs*: the leaf's other bits.
//! - *extent*: IOVA that is contiguous in physical memory, with equal attrs, however many leaves it
//!   has. *tile*: a leaf as it ought to be. *tiling*: the tiles of an extent.
//! - *split*: replace a leaf by smaller ones; *merge*: the mirror; *cut*: split a leaf so that a
//!   leaf ends where it must; *carve*: cut a block out and give it smaller leaves.
//! - *retire*: take leave of a table that the hardware may still read, until the IOTLB is flushed.
//! - *write back*: from the processors' caches to memory, for hardware that does not snoop them.
//!
//! # Picture
//!
//! ```text
//!            units, range   Iova, Phys, PageSize(s), IovaRange
//!              |
//!            format     entry <-> (leaf | table | absent): the seam; amdv1 is a format
//!            /   \
//!        leaves   contiguous run, tiling    what is there, and what ought to be
//!            \   /
//!            editor, subtree, reshape    one leaf <-> its pieces; every store translates alike
//!              |
//!            convert    a whole range, in steps of bounded work
//!
//!            pages      4K leaves that come and go, in a table that is there
//! ```
//!
//! # Rules for the caller
//!
//! - While a [`View`] or an [`Editor`] is used, nobody else frees a table of that range: map and
//!   unmap of the range, and other editors of it, are kept out. The hardware is not.
//! - What an editor returns says whether tables changed. If so: flush the IOTLB for the range it
//!   names, then free the retired tables, and only then let anybody rely on the new leaves.

mod amdv1;
mod changes;
mod contig;
mod convert;
mod editor;
mod format;
mod leaves;
mod level;
mod pages;
mod range;
mod reshape;
mod subtree;
mod tiling;
mod units;

pub use self::amdv1::AmdV1;
pub use self::changes::{
    Changes,
    Error, //
};
pub use self::contig::ContigRun;
pub use self::convert::{
    Conversion,
    Progress, //
};
pub use self::editor::Editor;
pub use self::format::{
    AdBits,
    Attrs,
    Entry,
    Format,
    LeafEntry,
    Table,
    Top, //
};
pub use self::leaves::{
    Extent,
    Extents,
    Leaf,
    LeafRun,
    LeafRuns,
    Leaves,
    View, //
};
pub use self::level::Level;
pub use self::range::{
    blocks_of,
    ends_of,
    first_piece,
    IovaRange, //
};

pub use self::units::{
    Iova,
    PageSize,
    PageSizes,
    Phys,
    PAGE_BYTES, //
};

use core::sync::atomic::AtomicU64;

/// The entries of a table.
pub type Entries = [AtomicU64; 512];

/// Where tables can be read.
pub trait Tables {
    /// The entries of `table`.
    fn entries(&self, table: Table) -> &Entries;
}

/// Where tables come from and go to.
pub trait TablePages: Tables {
    /// Why there is no table to be had.
    type Error;

    /// [`Self::write_back`] does what it says. Tables of a format that is
    /// [`INCOHERENT`](Format::INCOHERENT) can not be edited otherwise.
    const WRITES_BACK: bool = false;

    /// Makes what was stored in `entries` visible to hardware that does not snoop the processors'
    /// caches, before any later store. Not called for tables that are read by hardware that does.
    fn write_back(&self, entries: &[AtomicU64]) {
        let _ = entries;
    }

    /// A new table, all entries 0; for hardware, too, that does not snoop.
    fn alloc(&mut self) -> Result<Table, Self::Error>;

    /// Takes a table that the hardware may still be reading. Its memory may be used again only
    /// after the next flush of the IOTLB.
    fn retire(&mut self, table: Table);

    /// Takes a table that the hardware never saw, to be freed at once.
    fn discard(&mut self, table: Table);
}
