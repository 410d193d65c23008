// SPDX-License-Identifier: GPL-2.0

//! A page table, its model, and the check that they agree.

use pgtable_host::pgtable::{
    Changes,
    Conversion,
    Editor,
    Error,
    Format,
    Iova,
    IovaRange,
    PageSizes,
    Progress,
    Top,
    View, //
};

use crate::arena::{
    Arena,
    NoMemory, //
};
use crate::model::{
    ContigRun,
    Model,
    Tile, //
};
use crate::spec::{
    self,
    Spec, //
};

pub type Result = std::result::Result<(), Error<NoMemory>>;

pub struct World<S: Spec> {
    pub arena: Arena<S>,
    pub model: Model,
    pub top: Top,
    pub format: S::Format,
}

pub fn range(first: u64, last: u64) -> IovaRange {
    IovaRange::new(Iova::new(first), Iova::new(last)).expect("whole pages")
}

pub fn sizes(bits: u64) -> PageSizes {
    PageSizes::from_bits(bits)
}

/// The sizes with these exponents.
pub fn set(exponents: &[u32]) -> u64 {
    exponents.iter().fold(0, |set, lg2| set | (1 << lg2))
}

impl<S: Spec> World<S> {
    /// An empty page table whose top is of `level`.
    pub fn new(level: u8) -> Self {
        Self::encrypted(level, 0)
    }

    /// The same with a C-bit.
    pub fn encrypted(level: u8, c_bit: u64) -> Self {
        let arena = Arena::new(level, c_bit);
        let format = S::format(c_bit);
        Self {
            top: format.top(arena.root(), level + 1).unwrap(),
            format,
            model: Model::new(S::SIZES),
            arena,
        }
    }

    /// Maps as the driver does.
    pub fn map(&mut self, first: u64, bytes: u64, phys: u64, rest: u64, sizes: u64) {
        let last = first + (bytes - 1);
        let contig = ContigRun {
            first,
            last,
            phys,
            rest,
        };
        self.model.map(contig, sizes);
        for tile in self.model.tiling(contig, sizes) {
            self.arena
                .install(tile.iova, tile.phys, tile.lg2, tile.rest);
        }
        self.arena.accept();
    }

    /// Maps one leaf.
    pub fn leaf(&mut self, iova: u64, phys: u64, lg2: u32) {
        self.map(iova, 1 << lg2, phys, S::READ | S::WRITE, 1 << lg2);
    }

    /// A device reads or writes at `iova`.
    pub fn mark(&mut self, iova: u64, ad_bits: u64) {
        self.arena.mark(iova, ad_bits);
        for tile in &mut self.model.tiles {
            if tile.iova <= iova && iova <= tile.last() {
                tile.ad_bits |= ad_bits;
            }
        }
    }

    pub fn editor(&mut self) -> Editor<'_, Arena<S>, S::Format> {
        Editor::new(&mut self.arena, self.top, self.format)
    }

    /// An editor that may change translations, until these are accepted.
    pub fn mapping_editor(&mut self) -> Editor<'_, Arena<S>, S::Format> {
        self.arena.maps.set(true);
        self.editor()
    }

    /// For changes of the bits of leaves, until they are accepted.
    pub fn bit_editor(&mut self) -> Editor<'_, Arena<S>, S::Format> {
        self.arena.unseen.set(true);
        self.editor()
    }

    pub fn view(&self) -> View<'_, Arena<S>, S::Format> {
        View::new(&self.arena, self.top, self.format)
    }

    /// Converts in steps; returns what changed and how many steps it took.
    pub fn convert(&mut self, range: IovaRange, to: u64, work: u32) -> (Changes, usize, Result) {
        let mut conversion = Conversion::new(range, sizes(to));
        let mut all = Changes::NONE;
        for step in 1.. {
            let (changes, result) = conversion.step(&mut self.editor(), work);
            all = all.and(changes);
            self.arena.settle();
            match result {
                Ok(Progress::Done) => return (all, step, Ok(())),
                Ok(Progress::More) => assert!(conversion.rest().is_some()),
                Err(error) => return (all, step, Err(error)),
            }
        }
        unreachable!()
    }

    /// All leaves.
    pub fn leaves(&self) -> Vec<Tile> {
        let tile = |leaf: pgtable_host::pgtable::Leaf| {
            let iova = leaf.iova.get();
            let (phys, rest, lg2, _) = self.arena.walk(iova).expect("a leaf that no walk finds");
            assert_eq!(leaf.phys().get(), phys);
            assert_eq!(u32::from(leaf.size().lg2()), lg2);
            Tile {
                iova,
                phys,
                lg2,
                rest,
                ad_bits: self.ad_bits(iova, lg2),
            }
        };
        self.view().leaves(IovaRange::ALL).map(tile).collect()
    }

    /// The AD bits of a leaf, from all its entries.
    fn ad_bits(&self, iova: u64, lg2: u32) -> u64 {
        let entry = spec::shift(spec::level_of(lg2));
        (0..1u64 << (lg2 - entry)).fold(0, |ad_bits, n| {
            let (_, _, size, own) = self
                .arena
                .walk(iova + (n << entry))
                .expect("a run with a hole");
            assert_eq!(size, lg2, "a run of unequal entries");
            ad_bits | own
        })
    }

    /// Checks that page table and model have the same leaves, and that no table leaked.
    pub fn check(&mut self) {
        self.arena.settle();
        let leaves = self.leaves();
        for (found, wanted) in leaves.iter().zip(&self.model.tiles) {
            assert_eq!(found, wanted);
        }
        assert_eq!(leaves.len(), self.model.tiles.len());
    }

    /// Checks that the changes name every entry that was written since the last call.
    pub fn check_touched(&self, changes: Changes) {
        self.arena.look();
        if let Some((first, last)) = self.arena.stored.take() {
            let stored = range(first, last);
            let touched = changes.touched().expect("nothing to be flushed");
            assert!(
                touched.covers(stored),
                "{touched:x?} lacks some of {stored:x?}"
            );
        }
    }

    /// Checks that the changes are those from `old` to the present model.
    pub fn check_changes(&self, old: &Model, changes: Changes) {
        // Blocks are nested or disjoint: a leaf that is gone is larger or smaller than the leaf at
        // its start.
        let shrunk = |now: &Model, tile: &Tile| {
            let now = now.tile_at(tile.iova);
            now.is_some_and(|now| now.lg2 < tile.lg2)
        };
        let (was, is) = (old, &self.model);
        let split = was.tiles.iter().filter(|tile| shrunk(is, tile));
        let merged = is.tiles.iter().filter(|tile| shrunk(was, tile));
        let found = (changes.splits(), changes.merges());
        let wanted = (split.clone().count(), merged.clone().count());
        assert_eq!(found, (wanted.0 as u64, wanted.1 as u64));

        let all = || split.clone().chain(merged.clone());
        let first = all().map(|tile| tile.iova).min();
        let touched = first.zip(all().map(Tile::last).max());
        let touched = touched.map(|(first, last)| range(first, last));
        assert_eq!(changes.touched(), touched);
    }

    /// Checks that all leaves are as in one of the models. Returns the number of those that are as
    /// in the second.
    pub fn check_either(&mut self, old: &Model, new: &Model) -> usize {
        self.arena.settle();
        let leaves = self.leaves();
        let mut next = None;
        for leaf in &leaves {
            let bare = |tile: &Tile| Tile {
                ad_bits: 0,
                ..*tile
            };
            let known =
                |model: &Model| model.tile_at(leaf.iova).as_ref().map(bare) == Some(bare(leaf));
            assert!(known(old) || known(new), "{leaf:x?} is neither old nor new");
            assert!(next.is_none_or(|next| next <= leaf.iova), "leaves overlap");
            next = Some(leaf.last());
        }
        let bytes = |tiles: &[Tile]| tiles.iter().map(|tile| 1u64 << tile.lg2).sum::<u64>();
        assert_eq!(bytes(&leaves), bytes(&old.tiles), "a leaf is lost");
        leaves
            .iter()
            .filter(|leaf| new.tile_at(leaf.iova).as_ref() == Some(leaf))
            .count()
    }
}
