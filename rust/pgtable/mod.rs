// SPDX-License-Identifier: GPL-2.0

//! Reads and reshapes IOMMU page tables. Each address translates the same at every moment of an
//! edit.
//!
//! The code is arithmetic on tables: it uses `core` alone, and builds and runs its tests on the
//! host. It takes no lock and reaches memory only through [`Tables`] and [`TablePages`]. It maps
//! and unmaps single 4K pages only ([`Editor::fill`], [`Editor::take`]); the IOMMU driver maps
//! everything else.
//!
//! # Glossary
//!
//! The terms are those of `drivers/iommu/generic_pt/pt_defs.h`, where it has one.
//!
//! - *entry*: 64 bits of a table. *table*: a page of 512 entries. *level*: 0 (entries of 4K) to 5.
//!   *top*: the table where the IOMMU starts its walk.
//! - *leaf*: translates an aligned block of IOVA. It is one entry, or several equal entries (a
//!   contiguous entry in generic_pt).
//! - *AD bits*: accessed and dirty, which the hardware may set. *attrs*: the other bits of a leaf.
//! - *contiguous run*: an IOVA range that is contiguous in physical memory. *extent*: a contiguous
//!   run with equal attrs that is mapped. *tile*: a leaf that the allowed sizes ask for. *tiling*:
//!   all tiles of a contiguous run.
//! - *split*: replace a leaf by smaller ones. *merge*: the reverse.
//! - *retire*: take a table out that the hardware may still read; it is freed after the IOTLB
//!   flush.
//! - *write back*: from the CPU caches to memory, for hardware that does not snoop.
//!
//! # Modules
//!
//! ```text
//!            units, range   Iova, Phys, PageSize(s), IovaRange
//!              |
//!            format     entry <-> (leaf | table | absent): one trait; amdv1 implements it
//!            /   \
//!        leaves   contig, tiling    the leaves that exist, and those that the sizes ask for
//!            \   /
//!            editor, subtree, reshape    one leaf <-> smaller leaves
//!              |
//!            convert    a whole range, in steps of bounded work
//!
//!            pages      4K leaves, mapped into and unmapped from an existing table
//!            dirty      what devices wrote
//! ```
//!
//! # Rules for the caller
//!
//! - While a [`View`] or an [`Editor`] is in use, nothing else maps, unmaps or edits the range, and
//!   no table of it is freed. The hardware may walk the table and set AD bits.
//! - If [`Changes::touched`] names a range, flush the IOTLB for it, then free the retired tables.
//!   Rely on the new leaves only after the flush.

mod amdv1;
mod changes;
mod contig;
mod convert;
mod dirty;
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

/// Read access to tables.
pub trait Tables {
    /// The entries of `table`.
    fn entries(&self, table: Table) -> &Entries;
}

/// Allocates and frees tables.
pub trait TablePages: Tables {
    /// Why [`Self::alloc`] fails.
    type Error;

    /// Whether [`Self::write_back`] is implemented. An [`INCOHERENT`](Format::INCOHERENT) format
    /// needs it.
    const WRITES_BACK: bool = false;

    /// Makes stores to `entries` visible to hardware that does not snoop the CPU caches, before any
    /// later store. Called only for such hardware.
    fn write_back(&self, entries: &[AtomicU64]) {
        let _ = entries;
    }

    /// Allocates a table of zeroes, which hardware that does not snoop sees as zeroes, too.
    fn alloc(&mut self) -> Result<Table, Self::Error>;

    /// Takes a table that the hardware may still read. Free it only after the next IOTLB flush.
    fn retire(&mut self, table: Table);

    /// Frees a table that the hardware has never seen.
    fn discard(&mut self, table: Table);
}
