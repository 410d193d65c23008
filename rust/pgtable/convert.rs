// SPDX-License-Identifier: GPL-2.0

//! Converts a range to other leaf sizes, in steps of bounded work.

use core::sync::atomic::Ordering;

use super::{
    contig::{
        ContigRun,
        Tiles, //
    },
    tiling::Plan,
    AdBits,
    Changes,
    Editor,
    Entry,
    Error,
    Extent,
    Format,
    Iova,
    IovaRange,
    Leaf,
    LeafEntry,
    Level,
    PageSizes,
    TablePages, //
};

/// Bytes per look-ahead: at most 32 level-0 tables, or one leaf.
const LOOK_AHEAD: u64 = 64 << 20;

/// Work is counted in entries. A table has this many.
const TABLE_WORK: u64 = 512;

/// The cost of a walk from the top, in entries.
const WALK_WORK: u64 = 16;

/// A conversion in progress. At its end, each extent of the range has the leaves that a new map
/// with the given sizes creates, as far as the top reaches; the top does not grow.
///
/// Nothing may be mapped or unmapped in the range between two steps. Splits are allowed. Otherwise,
/// start a new conversion of [`Conversion::rest`].
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// The part that is not converted yet.
    rest: Option<IovaRange>,
    sizes: PageSizes,
    /// The extent at the start of `rest`, if it was looked at.
    known: Option<Known>,
}

/// The start of an extent.
#[derive(Debug, Clone, Copy)]
struct Known {
    extent: Extent,
    /// The extent ends there. Otherwise it may continue.
    ends: bool,
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The whole range is converted.
    Done,
    /// A part is not converted yet.
    More,
}

impl Conversion {
    /// Converts `range` to `sizes`. 4K is always allowed.
    ///
    /// No leaf may cross an end of the range: see [`Editor::split_boundary`].
    pub fn new(range: IovaRange, sizes: PageSizes) -> Self {
        Self {
            rest: Some(range),
            sizes: sizes.union(PageSizes::ONLY_4K),
            known: None,
        }
    }

    /// The part that is not converted yet.
    pub fn rest(&self) -> Option<IovaRange> {
        self.rest
    }

    /// Continues. Stops after about `work` tables (of 512 entries) were read, built or retired. It
    /// finishes a leaf that it has begun, which may need a table for each 2M of the leaf.
    ///
    /// After an error each leaf is an old one or one of the new tiling.
    pub fn step<P: TablePages, F: Format>(
        &mut self,
        editor: &mut Editor<'_, P, F>,
        work: u32,
    ) -> (Changes, Result<Progress, Error<P::Error>>) {
        let mut changes = Changes::NONE;
        let mut work = u64::from(work.max(1)).saturating_mul(TABLE_WORK);

        while let Some(rest) = self.rest {
            if work == 0 {
                return (changes, Ok(Progress::More));
            }
            if let Err(error) = self.advance(editor, rest, &mut work, &mut changes) {
                return (changes, Err(error));
            }
        }
        (changes, Ok(Progress::Done))
    }

    /// Looks ahead once, splits one leaf, or installs the tiles of one table.
    fn advance<P: TablePages, F: Format>(
        &mut self,
        editor: &mut Editor<'_, P, F>,
        rest: IovaRange,
        work: &mut u64,
        changes: &mut Changes,
    ) -> Result<(), Error<P::Error>> {
        spend(work, WALK_WORK);
        let Some(leaf) = editor.view().leaves(rest).next() else {
            self.rest = None;
            return Ok(());
        };
        let whole = leaf.range();
        if !rest.covers(whole) {
            return Err(Error::Straddles(leaf.iova));
        }

        let known = self.known_at(&leaf);
        let sizes = self.sizes.intersect(editor.sizes());
        let contig = ContigRun {
            range: rest.from(leaf.iova).unwrap_or(rest),
            phys: leaf.phys(),
        };
        // No look-ahead makes the tile larger than this.
        let limit = contig.tiles_at(leaf.iova, sizes);
        if !known.ends && known.extent.range.last() < leaf.iova.align_last(limit.size) {
            self.known = Some(look_ahead(editor, known, rest, work));
            self.rest = Some(contig.range);
            return Ok(());
        }
        self.known = Some(known);

        let contig = ContigRun {
            range: known.extent.range.from(leaf.iova).unwrap_or(whole),
            phys: leaf.phys(),
        };
        let tiles = contig.tiles_at(leaf.iova, sizes);
        let last = if leaf.size() > tiles.size {
            let plan = Plan::new(editor.format, leaf, whole, sizes, sizes);
            spend(work, leaf.size().pages());
            editor.replace(&plan, changes)?;
            whole.last()
        } else {
            put_tiles(editor, &leaf, tiles, work, changes)?
        };

        self.rest = rest.behind(last);
        Ok(())
    }

    /// What is known of the extent of `leaf`, which is the next leaf.
    fn known_at(&self, leaf: &Leaf) -> Known {
        let whole = leaf.range();

        match self.known {
            Some(known) if known.extent.range.covers(whole) => known,
            _ => Known {
                extent: Extent {
                    range: whole,
                    phys: leaf.phys(),
                    attrs: leaf.attrs(),
                },
                ends: false,
            },
        }
    }
}

/// Extends `known` within `rest`.
fn look_ahead<P: TablePages, F: Format>(
    editor: &Editor<'_, P, F>,
    known: Known,
    rest: IovaRange,
    work: &mut u64,
) -> Known {
    let extent = known.extent;
    let ended = Known { extent, ends: true };
    let Some(ahead) = rest.behind(extent.range.last()) else {
        return ended;
    };
    let window = IovaRange::with_len(ahead.start(), LOOK_AHEAD).unwrap_or(ahead);
    let window = window.intersect(ahead).unwrap_or(ahead);
    let Some(next) = editor.view().extents(window).next() else {
        return ended;
    };
    spend(work, next.range.pages());
    let distance = next.range.start().above(extent.range.start());

    if next.range.start() != ahead.start()
        || extent.phys.checked_add(distance) != Some(next.phys)
        || next.attrs != extent.attrs
    {
        return ended;
    }
    // The leaf may continue behind the window.
    let whole = match editor.view().leaf_at(window.last()) {
        Some(leaf) if next.range.last() == window.last() => leaf.range().intersect(ahead),
        _ => None,
    };
    Known {
        extent: Extent {
            range: extent.range.hull(whole.unwrap_or(next.range)),
            ..extent
        },
        ends: next.range.last() < window.last(),
    }
}

/// Replaces the leaves at `tiles`, none of which is larger than a tile, by the tiles. Stops at the
/// end of the table, at a larger leaf, or when the work is spent. Returns the last address that is
/// done.
fn put_tiles<P: TablePages, F: Format>(
    editor: &mut Editor<'_, P, F>,
    leaf: &Leaf,
    tiles: Tiles,
    work: &mut u64,
    changes: &mut Changes,
) -> Result<Iova, Error<P::Error>> {
    let level = Level::of(tiles.size);
    let table = editor
        .table_at(tiles.start, level)
        .ok_or(Error::Changed(tiles.start))?;
    let last = tiles.last.min(level.table_last(tiles.start));
    let mut tile = LeafEntry {
        phys: leaf.phys(),
        size: tiles.size,
        attrs: leaf.attrs(),
        ad_bits: AdBits::NONE,
    };
    let mut at = tiles.start;
    let mut done = None;

    loop {
        spend(work, 1);
        let block = IovaRange::block(at, tiles.size);
        let found = editor
            .slot(table, level, at)
            .map_or(0, |slot| slot.load(Ordering::Acquire));

        if editor.format.without_ad_bits(found) != editor.format.leaf(tile, level) {
            match editor.format.decode(found, level) {
                Entry::Leaf(other) if other.size > tiles.size => break,
                Entry::Leaf(_) | Entry::Table(_) => {}
                Entry::Absent => return Err(Error::Changed(at)),
            }
            if *work == 0 && done.is_some() {
                break;
            }
            spend(work, tiles.size.pages());
            changes.add_touch(block);
            let born = LeafEntry {
                ad_bits: editor.born,
                ..tile
            };
            editor.install_leaves(table, level, block, born)?;
            changes.add_merge(block);
        }

        done = Some(block.last());
        match block.last().next().filter(|next| *next <= last) {
            Some(next) => {
                tile.phys = tile.phys.at(at, next);
                at = next;
            }
            None => break,
        }
    }
    done.ok_or(Error::Changed(at))
}

fn spend(work: &mut u64, entries: u64) {
    *work = work.saturating_sub(entries);
}
