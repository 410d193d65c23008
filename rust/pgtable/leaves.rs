// SPDX-License-Identifier: GPL-2.0

//! Iterators over the leaves of a page table.
//!
//! Each walks down from the top at most once per table and keeps only its position. An iterator
//! that joins leaves continues as long as they match: bound the work by the range.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use super::{
    Attrs,
    Entries,
    Entry,
    Format,
    Iova,
    IovaRange,
    LeafEntry,
    Level,
    PageSize,
    Phys,
    Tables,
    Top, //
};

/// Read access to a page table.
#[derive(Debug)]
pub struct View<'t, T, F> {
    tables: &'t T,
    top: Top,
    format: F,
}

impl<T, F: Copy> Clone for View<'_, T, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, F: Copy> Copy for View<'_, T, F> {}

/// A leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Start of the leaf.
    pub iova: Iova,
    /// Its entry.
    pub entry: LeafEntry,
}

impl Leaf {
    /// Start of the leaf in physical memory.
    #[inline]
    pub const fn phys(&self) -> Phys {
        self.entry.phys
    }

    /// Its size.
    #[inline]
    pub const fn size(&self) -> PageSize {
        self.entry.size
    }

    /// Its attributes.
    #[inline]
    pub const fn attrs(&self) -> Attrs {
        self.entry.attrs
    }

    /// The addresses it translates.
    #[inline]
    pub const fn range(&self) -> IovaRange {
        IovaRange::block(self.iova, self.entry.size)
    }
}

/// Addresses that are contiguous in physical memory, with equal attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The range.
    pub range: IovaRange,
    /// Where `range.start()` is in physical memory.
    pub phys: Phys,
    /// Attributes of the leaves.
    pub attrs: Attrs,
}

/// Adjacent leaves that differ only in their physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafRun {
    /// The range that they cover.
    pub range: IovaRange,
    /// The size of each leaf.
    pub size: PageSize,
    /// The attributes of each leaf.
    pub attrs: Attrs,
}

impl From<Leaf> for LeafRun {
    fn from(leaf: Leaf) -> Self {
        Self {
            range: leaf.range(),
            size: leaf.size(),
            attrs: leaf.attrs(),
        }
    }
}

impl<'t, T: Tables, F: Format> View<'t, T, F> {
    /// Reads the page table below `top`.
    pub const fn new(tables: &'t T, top: Top, format: F) -> Self {
        Self {
            tables,
            top,
            format,
        }
    }

    /// The leaves that overlap `range`, in ascending order. A leaf may extend beyond the range.
    pub fn leaves(self, range: IovaRange) -> Leaves<'t, T, F> {
        Leaves {
            cursor: Cursor::new(self, range),
        }
    }

    /// The extents of `range`, in ascending order, clipped to it.
    ///
    /// Costs about seven instructions per leaf where leaves are contiguous.
    pub fn extents(self, range: IovaRange) -> Extents<'t, T, F> {
        Extents {
            cursor: Cursor::new(self, range),
            held: None,
        }
    }

    /// The leaves that overlap `range`, as runs. The first and the last may extend beyond the
    /// range.
    pub fn leaf_runs(self, range: IovaRange) -> LeafRuns<'t, T, F> {
        LeafRuns {
            cursor: Cursor::new(self, range),
            held: None,
        }
    }

    /// The leaf that translates `iova`.
    pub fn leaf_at(self, iova: Iova) -> Option<Leaf> {
        let range = IovaRange::block(iova, PageSize::SIZE_4K);

        Some(Cursor::new(self, range).next_leaf()?.0)
    }

    /// The physical address of `iova`.
    pub fn translate(self, iova: Iova) -> Option<Phys> {
        let leaf = self.leaf_at(iova)?;

        Some(leaf.phys().at(leaf.iova, iova))
    }

    /// The format of the table.
    #[inline]
    pub const fn format(self) -> F {
        self.format
    }
}

/// A position in a page table.
struct Cursor<'t, T, F> {
    view: View<'t, T, F>,
    /// The next address to look at; `None` at the end.
    next: Option<Iova>,
    /// The last address to look at.
    last: Iova,
    /// The table that holds `next`; `None`: walk from the top.
    table: Option<(&'t Entries, Level)>,
}

impl<'t, T: Tables, F: Format> Cursor<'t, T, F> {
    fn new(view: View<'t, T, F>, range: IovaRange) -> Self {
        // Nothing is mapped above what the top reaches; an index would wrap there.
        let reach = view.format.reach(view.top.level);

        Self {
            view,
            next: Some(range.start()),
            last: range.last().min(reach),
            table: None,
        }
    }

    /// Moves behind `last`, an address of the current table.
    #[inline]
    fn pass(&mut self, last: Iova, level: Level) {
        if last == level.table_last(last) {
            self.table = None;
        }
        self.next = last.next();
    }

    /// Moves behind the next leaf. Returns it, and its entry without AD bits.
    #[inline]
    fn next_leaf(&mut self) -> Option<(Leaf, u64)> {
        loop {
            let iova = self.next.filter(|iova| *iova <= self.last)?;
            let (entries, level) = match self.table {
                Some(found) => found,
                None => (
                    self.view.tables.entries(self.view.top.table),
                    self.view.top.level,
                ),
            };
            let raw = entries.get(level.index(iova))?.load(Ordering::Acquire);

            if let Some(entry) = self.view.format.decode_4k(raw, level) {
                self.table = Some((entries, level));
                self.pass(iova.align_last(PageSize::SIZE_4K), level);
                return Some((
                    Leaf {
                        iova: iova.align_down(PageSize::SIZE_4K),
                        entry,
                    },
                    self.view.format.without_ad_bits(raw),
                ));
            }
            match self.view.format.decode(raw, level) {
                Entry::Table(table) => {
                    self.table = Some((self.view.tables.entries(table), level.below()?));
                }
                Entry::Absent => {
                    self.table = Some((entries, level));
                    self.pass(iova.align_last(level.entry_size()), level);
                }
                Entry::Leaf(entry) => {
                    self.table = Some((entries, level));
                    self.pass(iova.align_last(entry.size), level);
                    let iova = iova.align_down(entry.size);
                    return Some((Leaf { iova, entry }, self.view.format.without_ad_bits(raw)));
                }
            }
        }
    }

    /// Moves over the leaves that follow `leaf` in its table as long as `like` accepts their
    /// entries. `like` accepts only leaves of the same size. Returns the last address passed, if
    /// any.
    #[inline]
    fn pass_while(&mut self, leaf: &Leaf, mut like: impl FnMut(u64) -> bool) -> Option<Iova> {
        let iova = self.next.filter(|iova| *iova <= self.last)?;
        let (entries, level) = self.table?;
        let size = leaf.size();
        let end = level.index(self.last.min(level.table_last(iova)));
        let mut passed = 0u64;
        let ahead = entries.get(level.index(iova)..=end)?;
        let mut look = |entry: &AtomicU64| {
            let goes_on = like(entry.load(Ordering::Relaxed));
            passed = passed.wrapping_add(u64::from(goes_on));
            goes_on
        };

        if size == level.entry_size() {
            let _ = ahead.iter().all(&mut look);
        } else {
            // All entries of a leaf are equal: read the first one.
            let leaves = ahead.chunks_exact(level.entries(size));
            let _ = leaves.flat_map(|leaf| leaf.first()).all(&mut look);
        }

        // Within a table: cannot overflow.
        let bytes = passed.wrapping_mul(size.bytes());
        let last = iova.checked_add(bytes.checked_sub(1)?)?;
        self.pass(last, level);
        Some(last)
    }
}

/// See [`View::leaves`].
pub struct Leaves<'t, T, F> {
    cursor: Cursor<'t, T, F>,
}

impl<T: Tables, F: Format> Iterator for Leaves<'_, T, F> {
    type Item = Leaf;

    #[inline]
    fn next(&mut self) -> Option<Leaf> {
        Some(self.cursor.next_leaf()?.0)
    }
}

/// See [`View::extents`].
pub struct Extents<'t, T, F> {
    cursor: Cursor<'t, T, F>,
    held: Option<(Leaf, u64)>,
}

impl<T: Tables, F: Format> Iterator for Extents<'_, T, F> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let cursor = &mut self.cursor;
        let format = cursor.view.format;
        // Only the first leaf may start before the range.
        let ((mut leaf, mut raw), start) = match self.held.take() {
            Some(held) => (held, held.0.iova),
            None => {
                let from = cursor.next?;
                let found = cursor.next_leaf()?;
                (found, found.0.iova.max(from))
            }
        };
        let (phys, attrs) = (leaf.phys().at(leaf.iova, start), leaf.attrs());
        let mut last = leaf.range().last();

        loop {
            let step = leaf.size().bytes();
            let mut expected = raw;
            if let Some(passed) = cursor.pass_while(&leaf, |raw| {
                expected = expected.wrapping_add(step);
                format.without_ad_bits(raw) == expected
            }) {
                last = passed;
            }

            let Some((next, entry)) = cursor.next_leaf() else {
                break;
            };
            if last.next() != Some(next.iova)
                || phys.checked_add(next.iova.above(start)) != Some(next.phys())
                || attrs != next.attrs()
            {
                self.held = Some((next, entry));
                break;
            }
            last = next.range().last();
            (leaf, raw) = (next, entry);
        }

        Some(Extent {
            range: IovaRange::new(start, last.min(cursor.last))?,
            phys,
            attrs,
        })
    }
}

/// See [`View::leaf_runs`].
pub struct LeafRuns<'t, T, F> {
    cursor: Cursor<'t, T, F>,
    held: Option<(Leaf, u64)>,
}

impl<T: Tables, F: Format> Iterator for LeafRuns<'_, T, F> {
    type Item = LeafRun;

    fn next(&mut self) -> Option<LeafRun> {
        let cursor = &mut self.cursor;
        let (first, raw) = match self.held.take() {
            Some(held) => held,
            None => cursor.next_leaf()?,
        };
        let like = cursor.view.format.leaf_kind(raw);
        let mut last = first.range().last();

        loop {
            let format = cursor.view.format;
            // The size of a leaf of several entries is in the address bits.
            if first.size() == Level::of(first.size()).entry_size() {
                if let Some(passed) = cursor.pass_while(&first, |raw| format.leaf_kind(raw) == like)
                {
                    last = passed;
                }
            }

            let Some((next, entry)) = cursor.next_leaf() else {
                break;
            };
            if last.next() != Some(next.iova)
                || first.size() != next.size()
                || first.attrs() != next.attrs()
            {
                self.held = Some((next, entry));
                break;
            }
            last = next.range().last();
        }

        Some(LeafRun {
            range: IovaRange::new(first.iova, last)?,
            size: first.size(),
            attrs: first.attrs(),
        })
    }
}
