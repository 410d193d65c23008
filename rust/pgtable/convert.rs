// SPDX-License-Identifier: GPL-2.0

//! A whole range to other leaf sizes, in steps of bounded work.

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

/// How far one look ahead goes: at most 32 level-0 tables of leaves, or one leaf.
const LOOK_AHEAD: u64 = 64 << 20;

/// Work is counted in entries. This many are in a table,
const TABLE_WORK: u64 = 512;

/// and going down to one from the top costs as much as this many.
const WALK_WORK: u64 = 16;

/// A conversion under way: afterwards each extent of the range has the leaves that a fresh map of
/// it with the given sizes would make (as far as the top reaches: it does not grow).
///
/// Between two steps nothing of the range may be mapped or unmapped; splitting is harmless. If that
/// can not be had, go on with a new conversion of what [`Conversion::rest`] says.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// What is left to do.
    rest: Option<IovaRange>,
    sizes: PageSizes,
    /// What is known of the extent at the start of the rest.
    known: Option<Known>,
}

/// The beginning of an extent, as far as looked at.
#[derive(Debug, Clone, Copy)]
struct Known {
    extent: Extent,
    /// It ends there. Otherwise it may go on.
    ends: bool,
}

/// How far a step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All of the range is converted.
    Done,
    /// There is more to do.
    More,
}

impl Conversion {
    /// To convert `range` to `sizes`. 4K is always allowed.
    ///
    /// No leaf may cross the ends of the range: cut it there first.
    pub fn new(range: IovaRange, sizes: PageSizes) -> Self {
        Self {
            rest: Some(range),
            sizes: sizes.union(PageSizes::ONLY_4K),
            known: None,
        }
    }

    /// What is left to do.
    pub fn rest(&self) -> Option<IovaRange> {
        self.rest
    }

    /// Goes on. Stops when about `work` tables (of 512 entries each) were looked at, made or
    /// retired; but a leaf that was begun is finished, and may itself take a table for each 2M.
    ///
    /// After an error each leaf is one that was there before or one of the new tiling.
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

    /// One look, one split, or one table's worth of tiles.
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
        // The tile is no larger than this, whatever a further look would find.
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

    /// What is known of the extent that `leaf`, the next one, is in.
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

/// Looks further ahead, within `rest`.
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
    // A leaf that goes on behind the window is taken whole.
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

/// Makes of what is there, leaves no larger than the span's tiles, these tiles; up to the end of the
/// table, or until a larger leaf is met or the work is spent. Returns the last address done.
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
            editor.install_leaves(table, level, block, tile)?;
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
