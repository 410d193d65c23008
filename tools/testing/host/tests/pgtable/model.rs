// SPDX-License-Identifier: GPL-2.0

//! The naive model: a list of leaves, from the definition of a tile.

use crate::spec::PAGE;

/// A leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    pub iova: u64,
    pub phys: u64,
    pub lg2: u32,
    pub rest: u64,
    pub ad_bits: u64,
}

impl Tile {
    pub fn last(&self) -> u64 {
        self.iova + ((1 << self.lg2) - 1)
    }

    fn overlaps(&self, first: u64, last: u64) -> bool {
        self.iova <= last && first <= self.last()
    }
}

/// An IOVA range that is contiguous in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContigRun {
    pub first: u64,
    pub last: u64,
    pub phys: u64,
    pub rest: u64,
}

/// The tile that contains `iova`, by definition: of the largest allowed size whose aligned block
/// around `iova` is within the contiguous run, and that divides the distance to physical memory.
fn tile_of(iova: u64, contig: ContigRun, sizes: u64) -> Tile {
    let delta = contig.phys.wrapping_sub(contig.first);
    let lg2 = (12..64)
        .filter(|lg2| sizes & (1 << lg2) != 0)
        .filter(|lg2| {
            let first = iova >> lg2 << lg2;
            let last = first + ((1 << lg2) - 1);
            contig.first <= first && last <= contig.last && delta % (1 << lg2) == 0
        })
        .max()
        .expect("4K always fits");
    let start = iova >> lg2 << lg2;
    Tile {
        iova: start,
        phys: contig.phys + (start - contig.first),
        lg2,
        rest: contig.rest,
        ad_bits: 0,
    }
}

/// All tiles of a contiguous run.
fn tiling(contig: ContigRun, sizes: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut next = Some(contig.first);
    while let Some(iova) = next.filter(|iova| *iova <= contig.last) {
        let tile = tile_of(iova, contig, sizes);
        assert_eq!(tile.iova, iova, "tiles overlap");
        next = tile.last().checked_add(1);
        tiles.push(tile);
    }
    tiles
}

/// A page table.
#[derive(Debug, Clone)]
pub struct Model {
    pub tiles: Vec<Tile>,
    /// The leaf sizes of the format.
    sizes: u64,
}

impl Model {
    /// An empty page table of a format with these leaf sizes.
    pub fn new(sizes: u64) -> Self {
        Self {
            tiles: Vec::new(),
            sizes,
        }
    }

    /// The tiles of a contiguous run, with the sizes that the format has.
    pub fn tiling(&self, contig: ContigRun, sizes: u64) -> Vec<Tile> {
        tiling(contig, sizes & self.sizes)
    }

    /// The maximal contiguous runs in what is mapped from `first` to `last`, clipped to it.
    pub fn contig_runs(&self, first: u64, last: u64) -> Vec<ContigRun> {
        let mut found: Vec<ContigRun> = Vec::new();
        for tile in self.overlapping(first, last) {
            let start = tile.iova.max(first);
            let piece = ContigRun {
                first: start,
                last: tile.last().min(last),
                phys: tile.phys + (start - tile.iova),
                rest: tile.rest,
            };
            match found.last_mut() {
                Some(before)
                    if before.last + 1 == piece.first
                        && before.rest == piece.rest
                        && before.phys + (piece.first - before.first) == piece.phys =>
                {
                    before.last = piece.last;
                }
                _ => found.push(piece),
            }
        }
        found
    }

    /// Replaces all tiles that overlap `new`. New tiles get the AD bits of those that they overlap.
    /// An existing tile stays.
    pub fn put(&mut self, new: Vec<Tile>) {
        let (Some(first), Some(last)) = (new.first(), new.last()) else {
            return;
        };
        let (first, last) = (first.iova, last.last());
        let new: Vec<Tile> = new
            .into_iter()
            .map(|tile| {
                let ad_bits = self.overlapping(tile.iova, tile.last()).iter();
                Tile {
                    ad_bits: ad_bits.fold(0, |ad_bits, old| ad_bits | old.ad_bits),
                    ..tile
                }
            })
            .collect();
        self.tiles.retain(|tile| !tile.overlaps(first, last));
        self.tiles.extend(new);
        self.tiles.sort_by_key(|tile| tile.iova);
    }

    /// The tiles that overlap the addresses from `first` to `last`. They are in ascending order.
    pub fn overlapping(&self, first: u64, last: u64) -> &[Tile] {
        let start = self.tiles.partition_point(|tile| tile.last() < first);
        let end = self.tiles.partition_point(|tile| tile.iova <= last);
        &self.tiles[start..end]
    }

    pub fn overlapping_mut(&mut self, first: u64, last: u64) -> &mut [Tile] {
        let start = self.tiles.partition_point(|tile| tile.last() < first);
        let end = self.tiles.partition_point(|tile| tile.iova <= last);
        &mut self.tiles[start..end]
    }

    pub fn tile_at(&self, iova: u64) -> Option<Tile> {
        self.overlapping(iova, iova).first().copied()
    }

    pub fn is_free(&self, first: u64, last: u64) -> bool {
        self.overlapping(first, last).is_empty()
    }

    /// Maps a contiguous run.
    pub fn map(&mut self, contig: ContigRun, sizes: u64) {
        assert!(self.is_free(contig.first, contig.last));
        self.tiles.extend(self.tiling(contig, sizes));
        self.tiles.sort_by_key(|tile| tile.iova);
    }

    /// Unmaps `first` to `last`. No tile crosses these.
    pub fn unmap(&mut self, first: u64, last: u64) {
        self.tiles.retain(|tile| !tile.overlaps(first, last));
    }

    /// Converts what is mapped from `first` to `last`.
    pub fn convert(&mut self, first: u64, last: u64, sizes: u64) {
        for contig in self.contig_runs(first, last) {
            self.put(self.tiling(contig, sizes | PAGE));
        }
    }

    /// Replaces the tile by three tilings: before `first`, up to `last`, and behind.
    fn split_tile(&mut self, tile: Tile, first: u64, last: u64, inner: u64, outer: u64) {
        let part = |first: u64, last: u64, sizes: u64| {
            let contig = ContigRun {
                first,
                last,
                phys: tile.phys + (first - tile.iova),
                rest: tile.rest,
            };
            self.tiling(contig, (sizes | PAGE) & ((2 << tile.lg2) - 1))
        };
        let mut new = Vec::new();
        if tile.iova < first {
            new.extend(part(tile.iova, first - 1, outer));
        }
        new.extend(part(first.max(tile.iova), last.min(tile.last()), inner));
        if last < tile.last() {
            new.extend(part(last + 1, tile.last(), outer));
        }
        self.put(new);
    }

    pub fn split(&mut self, iova: u64, sizes: u64) {
        if let Some(tile) = self.tile_at(iova) {
            if sizes & (1 << tile.lg2) == 0 {
                self.split_tile(tile, tile.iova, tile.last(), sizes, sizes);
            }
        }
    }

    pub fn split_boundary(&mut self, at: u64, left: u64, right: u64) {
        if let Some(tile) = self.tile_at(at).filter(|tile| tile.iova != at) {
            self.split_tile(tile, at, tile.last(), right, left);
        }
    }

    pub fn split_range(&mut self, first: u64, last: u64, inner: u64, outer: u64) {
        for tile in self.tiles.clone() {
            let within = first <= tile.iova && tile.last() <= last;
            if tile.overlaps(first, last) && !(within && inner & (1 << tile.lg2) != 0) {
                self.split_tile(tile, first, last, inner, outer);
            }
        }
    }
}
