// SPDX-License-Identifier: GPL-2.0

//! Random sequences of operations: page table and model agree after each.

use proptest::prelude::*;

use pgtable_host::pgtable::{
    Changes,
    Error,
    Extent,
    Iova, //
};

use crate::arena::NoMemory;
use crate::dirty::read_dirty;
use crate::model::Model;
use crate::second_stage::SecondStage;
use crate::spec::{
    AmdV1,
    Spec,
    PAGE, //
};
use crate::world::{
    self,
    range,
    set,
    sizes,
    World, //
};

/// Number of pages that the operations use: 16 MiB.
const PAGES: u64 = 4096;

/// Their position: in one table, across two, across tables of higher levels, and at the end.
fn base<S: Spec>() -> impl Strategy<Value = u64> {
    const BYTES: u64 = PAGES * PAGE;
    let last = u64::MAX >> 64u8.saturating_sub(12 + 9 * S::LEVELS);
    let across = [30, 39, 48, 57].map(|lg2| (1 << lg2) - BYTES / 2);
    let bases = across.into_iter().filter(|base| base + (BYTES - 1) <= last);
    let bases: Vec<_> = bases.chain([0, last - (BYTES - 1)]).collect();

    prop::sample::select(bases)
}

/// An operation, and the number of tables that it can allocate if that is limited.
type Ops = Vec<(Op, Option<usize>)>;

fn ops() -> impl Strategy<Value = Ops> {
    prop::collection::vec((op(), prop::option::of(0..8usize)), 1..12)
}

#[derive(Debug, Clone)]
enum Op {
    Map {
        first: u64,
        pages: u64,
        phys: u64,
        writable: bool,
        to: u64,
    },
    Convert {
        first: u64,
        pages: u64,
        to: u64,
        work: u32,
    },
    Carve {
        first: u64,
        pages: u64,
        inner: u64,
        outer: u64,
    },
    Cut {
        at: u64,
        left: u64,
        right: u64,
    },
    Split {
        at: u64,
        to: u64,
    },
    Mark {
        at: u64,
        dirty_alone: bool,
    },
    Dirty {
        first: u64,
        pages: u64,
        take: bool,
    },
    MakeDirty {
        first: u64,
        pages: u64,
    },
    AllowWrites {
        first: u64,
        pages: u64,
        allow: bool,
    },
}

/// Page numbers, preferably at the boundaries of large blocks.
fn page() -> impl Strategy<Value = u64> {
    (
        0..=PAGES / 512,
        prop_oneof![Just(0), 0..16u64, 0..512u64, 496..512u64],
    )
        .prop_map(|(block, page)| (block * 512 + page).min(PAGES - 1))
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        1..32u64,
        1..PAGES,
        Just(512),
        Just(1024),
        Just(2048),
        Just(PAGES)
    ]
}

fn size_set() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(u64::MAX),
        Just(set(&[12])),
        Just(set(&[12, 21])),
        Just(set(&[12, 21, 30])),
        (0..1u64 << 14).prop_map(|bits| bits << 12),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let phys = prop_oneof![Just(1u64 << 18), Just((1 << 18) + 16), (0..1u64 << 18)];
    let writable = prop_oneof![4 => Just(true), 1 => Just(false)];
    prop_oneof![
        3 => (page(), length(), phys, writable, size_set()).prop_map(
            |(first, pages, phys, writable, to)| Op::Map { first, pages, phys, writable, to }
        ),
        4 => (page(), length(), size_set(), 1..40u32)
            .prop_map(|(first, pages, to, work)| Op::Convert { first, pages, to, work }),
        1 => (page(), length(), size_set(), size_set())
            .prop_map(|(first, pages, inner, outer)| Op::Carve { first, pages, inner, outer }),
        1 => (page(), size_set(), size_set())
            .prop_map(|(at, left, right)| Op::Cut { at, left, right }),
        1 => (page(), size_set()).prop_map(|(at, to)| Op::Split { at, to }),
        1 => (page(), any::<bool>())
            .prop_map(|(at, dirty_alone)| Op::Mark { at, dirty_alone }),
        2 => (page(), length(), any::<bool>())
            .prop_map(|(first, pages, take)| Op::Dirty { first, pages, take }),
        1 => (page(), length()).prop_map(|(first, pages)| Op::MakeDirty { first, pages }),
        1 => (page(), length(), any::<bool>())
            .prop_map(|(first, pages, allow)| Op::AllowWrites { first, pages, allow }),
    ]
}

fn ends(base: u64, first: u64, pages: u64) -> (u64, u64) {
    let end = (first + pages).min(PAGES);
    (base + first * PAGE, base + (end * PAGE - 1))
}

/// Does an edit, which may run out of memory once: each leaf is old or new then. After a second
/// try, the page table agrees with the model, and the changes are correct. Done again, the edit
/// does nothing.
fn attempt<S: Spec>(
    world: &mut World<S>,
    memory: Option<usize>,
    wanted: impl Fn(&mut Model),
    edit: impl Fn(&mut World<S>) -> (Changes, world::Result),
) {
    let old = world.model.clone();
    let mut new = old.clone();
    wanted(&mut new);
    let mut all = Changes::NONE;

    world.arena.until_failure = memory;
    let (changes, result) = edit(world);
    all = all.and(changes);
    if result.is_err() {
        assert_eq!(result, Err(Error::Pages(NoMemory)));
        world.check_either(&old, &new);
        world.arena.until_failure = None;
        let (changes, result) = edit(world);
        assert_eq!(result, Ok(()));
        all = all.and(changes);
    }
    world.model = new;
    world.check();
    world.check_changes(&old, all);
    world.check_touched(all);

    world.arena.until_failure = Some(0);
    assert_eq!(edit(world), (Changes::NONE, Ok(())));
    world.arena.until_failure = None;
    world.check();
}

fn apply<S: Spec>(world: &mut World<S>, base: u64, op: &Op, memory: Option<usize>) {
    match *op {
        Op::Map {
            first,
            pages,
            phys,
            writable,
            to,
        } => {
            let (first, last) = ends(base, first, pages);
            if world.model.is_free(first, last) {
                // Often at the same offset from the IOVA, so that it can be merged.
                let phys = phys * PAGE + (first - base);
                let rest = S::READ | if writable { S::WRITE } else { 0 };
                world.map(first, last - first + 1, phys, rest, to | PAGE);
            }
        }
        Op::Convert {
            first,
            pages,
            to,
            work,
        } => {
            let (first, last) = ends(base, first, pages);
            for at in [Some(first), last.checked_add(1)].into_iter().flatten() {
                let (at, left, right) = ((at - base) / PAGE, to, to);
                apply(world, base, &Op::Cut { at, left, right }, memory);
            }
            attempt(
                world,
                memory,
                |model| model.convert(first, last, to),
                |world| {
                    let (changes, _, result) = world.convert(range(first, last), to, work);
                    (changes, result)
                },
            );
        }
        Op::Carve {
            first,
            pages,
            inner,
            outer,
        } => {
            let (first, last) = ends(base, first, pages);
            attempt(
                world,
                memory,
                |model| model.split_range(first, last, inner, outer),
                |world| {
                    let editor = &mut world.editor();
                    editor.split_range(range(first, last), sizes(inner), sizes(outer))
                },
            );
        }
        Op::Cut { at, left, right } => {
            let at = base + at * PAGE;
            attempt(
                world,
                memory,
                |model| model.split_boundary(at, left, right),
                |world| {
                    let editor = &mut world.editor();
                    editor.split_boundary(Iova::new(at), sizes(left), sizes(right))
                },
            );
        }
        Op::Split { at, to } => {
            let at = base + at * PAGE;
            attempt(
                world,
                memory,
                |model| model.split(at, to),
                |world| world.editor().split(Iova::new(at), sizes(to)),
            );
        }
        Op::Mark { at, dirty_alone } => {
            let ad_bits = if dirty_alone { S::DIRTY } else { S::AD_BITS };
            world.mark(base + at * PAGE, ad_bits);
        }
        Op::Dirty { first, pages, take } => {
            let (first, last) = ends(base, first, pages);
            read_dirty(world, first, last, take);
        }
        Op::MakeDirty { first, pages } => {
            let (first, last) = ends(base, first, pages);
            world.bit_editor().make_dirty(range(first, last));
            for tile in world.model.overlapping_mut(first, last) {
                // One entry of a leaf is enough.
                tile.ad_bits |= S::DIRTY;
            }
            world.arena.accept();
        }
        Op::AllowWrites {
            first,
            pages,
            allow,
        } => {
            let (first, last) = ends(base, first, pages);
            let editor = world.bit_editor();
            editor.allow_writes(range(first, last), allow);
            for tile in world.model.overlapping_mut(first, last) {
                if allow {
                    tile.rest |= S::WRITE;
                } else {
                    tile.rest &= !S::WRITE;
                }
            }
            world.arena.accept();
        }
    }
}

/// The iterators agree with the model for this range.
fn check_iterators<S: Spec>(world: &World<S>, first: u64, last: u64) {
    let model = &world.model;
    let found: Vec<_> = world
        .view()
        .extents(range(first, last))
        .map(|e: Extent| (e.range.start().get(), e.range.last().get(), e.phys.get()))
        .collect();
    let wanted: Vec<_> = model
        .contig_runs(first, last)
        .into_iter()
        .map(|s| (s.first, s.last, s.phys))
        .collect();
    assert_eq!(found, wanted);

    let overlapping = || model.overlapping(first, last).iter();
    let leaves: Vec<_> = world
        .view()
        .leaves(range(first, last))
        .map(|leaf| leaf.iova.get())
        .collect();
    assert_eq!(
        leaves,
        overlapping().map(|tile| tile.iova).collect::<Vec<_>>()
    );

    let mut wanted: Vec<(u64, u64, u32, u64)> = Vec::new();
    for tile in overlapping() {
        match wanted.last_mut() {
            Some(run) if run.1 + 1 == tile.iova && (run.2, run.3) == (tile.lg2, tile.rest) => {
                run.1 = tile.last();
            }
            _ => wanted.push((tile.iova, tile.last(), tile.lg2, tile.rest)),
        }
    }
    let found: Vec<_> = world
        .view()
        .leaf_runs(range(first, last))
        .map(|run| {
            (
                run.range.start().get(),
                run.range.last().get(),
                u32::from(run.size.lg2()),
            )
        })
        .collect();
    assert_eq!(
        found,
        wanted
            .iter()
            .map(|run| (run.0, run.1, run.2))
            .collect::<Vec<_>>()
    );
}

/// Page table, model and iterators agree for this range after each of the operations.
fn agree<S: Spec>(base: u64, c_bit: u64, ops: &Ops, (first, pages): (u64, u64)) {
    let mut world = World::<S>::encrypted(S::LEVELS - 1, c_bit);

    for (op, memory) in ops {
        apply(&mut world, base, op, *memory);
        world.check();
        let (first, last) = ends(base, first, pages);
        check_iterators(&world, first, last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn amdv1_page_table_and_model_agree(
        base in base::<AmdV1>(),
        c_bit in prop::sample::select(AmdV1::C_BITS),
        ops in ops(),
        range in (page(), length()),
    ) {
        agree::<AmdV1>(base, c_bit, &ops, range);
    }

    #[test]
    fn second_stage_page_table_and_model_agree(
        base in base::<SecondStage>(),
        c_bit in prop::sample::select(SecondStage::C_BITS),
        ops in ops(),
        range in (page(), length()),
    ) {
        agree::<SecondStage>(base, c_bit, &ops, range);
    }
}
