// SPDX-License-Identifier: GPL-2.0

//! During an edit, each time the core visits a table, an entry changes: the hardware sets AD bits,
//! or it is unmapped against the rules.

use pgtable_host::pgtable::{
    Changes,
    Error,
    Iova, //
};

use crate::arena::Meddling;
use crate::spec::{
    self,
    Spec,
    M,
    PAGE, //
};
use crate::world::{
    range,
    set,
    sizes,
    Result,
    World, //
};

/// The start of the leaves that are edited.
const AT: u64 = 64 * M;

/// An edit of the leaves from `AT` on: how they are mapped, and what is done.
struct Edit<S: Spec> {
    name: &'static str,
    bytes: u64,
    from: u64,
    edit: fn(&mut World<S>) -> (Changes, Result),
}

fn convert<S: Spec>(world: &mut World<S>, bytes: u64, to: u64) -> (Changes, Result) {
    let (changes, _, result) = world.convert(range(AT, AT + bytes - 1), to, 1);
    (changes, result)
}

/// The edits of leaves that the format has.
fn edits<S: Spec>() -> impl Iterator<Item = Edit<S>> {
    let all: [Edit<S>; 8] = [
        Edit {
            name: "2M to 4K",
            bytes: 2 * M,
            from: 2 * M,
            edit: |world| world.editor().split(Iova::new(AT), sizes(PAGE)),
        },
        Edit {
            name: "8M to 4K",
            bytes: 8 * M,
            from: 8 * M,
            edit: |world| world.editor().split(Iova::new(AT), sizes(PAGE)),
        },
        Edit {
            name: "8M to 2M",
            bytes: 8 * M,
            from: 8 * M,
            edit: |world| world.editor().split(Iova::new(AT), sizes(2 * M)),
        },
        Edit {
            name: "8M, split within 4M",
            bytes: 8 * M,
            from: 8 * M,
            edit: |world| {
                let all = sizes(u64::MAX);
                world
                    .editor()
                    .split_boundary(Iova::new(AT + 3 * M), all, all)
            },
        },
        Edit {
            name: "64K to 4K",
            bytes: M,
            from: M / 16,
            edit: |world| convert(world, M, PAGE),
        },
        Edit {
            name: "4K to 2M",
            bytes: 2 * M,
            from: PAGE,
            edit: |world| convert(world, 2 * M, 2 * M),
        },
        Edit {
            name: "4K to 4M",
            bytes: 4 * M,
            from: PAGE,
            edit: |world| convert(world, 4 * M, 4 * M),
        },
        Edit {
            name: "2M to 8M",
            bytes: 8 * M,
            from: 2 * M,
            edit: |world| convert(world, 8 * M, 8 * M),
        },
    ];
    all.into_iter().filter(|edit| S::has(edit.from.ilog2()))
}

impl<S: Spec> Edit<S> {
    fn world(&self) -> World<S> {
        let mut world = World::new(2);
        world.map(AT - 2 * M, 2 * M, 30 * M, S::READ | S::WRITE, 2 * M);
        let phys = 16 * AT;
        world.map(
            AT,
            self.bytes,
            phys,
            S::READ | S::WRITE,
            set(&[12]) | self.from,
        );
        assert!(world.model.tile_at(AT).unwrap().lg2 == self.from.trailing_zeros());
        world
    }

    /// The addresses whose entries change.
    fn addresses(&self) -> [u64; 4] {
        [0, self.bytes / 2 - PAGE, self.bytes / 2, self.bytes - PAGE].map(|offset| AT + offset)
    }

    /// Number of visits of tables if nothing changes.
    fn visits(&self) -> usize {
        let mut world = self.world();
        world.arena.visits.set(0);
        let (_, result) = (self.edit)(&mut world);
        assert_eq!(result, Ok(()));
        world.arena.visits.get()
    }
}

/// The first and the last visits, and every seventh in between.
fn moments(visits: usize) -> impl Iterator<Item = usize> {
    (0..=visits).filter(move |n| *n < 100 || *n + 100 > visits || n % 7 == 0)
}

fn a_mark_at_any_moment_is_kept<S: Spec>() {
    for edit in edits::<S>() {
        for moment in moments(edit.visits()) {
            for iova in edit.addresses() {
                let mut world = edit.world();
                let marking = Meddling::Mark(S::DIRTY);
                world.arena.meddling.set(Some((moment, iova, marking)));
                let (_, result) = (edit.edit)(&mut world);
                assert_eq!(result, Ok(()), "{}", edit.name);
                world.arena.settle();
                if world.arena.meddling.take().is_some() {
                    continue;
                }
                let leaves = world.leaves();
                let mut holds = leaves.iter().filter(|leaf| leaf.iova <= iova);
                let leaf = holds.next_back().unwrap();
                assert_eq!(
                    leaf.ad_bits,
                    S::DIRTY,
                    "{}: the mark of {iova:#x}, made at look {moment}, is lost",
                    edit.name
                );
            }
        }
    }
}

/// Breaking the rules has a bounded effect: each address that was not unmapped translates as
/// before, no table leaks, and the changes name what was written.
fn an_entry_that_is_unmapped_at_any_moment_breaks_no_other<S: Spec>() {
    let mut noticed = 0;
    for edit in edits::<S>() {
        for moment in moments(edit.visits()) {
            for iova in edit.addresses() {
                let mut world = edit.world();
                let pages = || (0..edit.bytes / PAGE).map(|page| AT + page * PAGE);
                let where_to = |world: &World<S>, iova: u64| {
                    let found = world.arena.walk(iova);
                    found.map(|(phys, rest, _, _)| (phys, rest))
                };
                let before: Vec<_> = pages().map(|page| where_to(&world, page)).collect();
                let clearing = Meddling::Clear;
                world.arena.meddling.set(Some((moment, iova, clearing)));
                let (changes, result) = (edit.edit)(&mut world);
                assert!(matches!(result, Ok(()) | Err(Error::Changed(_))));
                noticed += usize::from(result.is_err());
                world.arena.settle();
                world.check_touched(changes);
                if world.arena.meddling.take().is_some() {
                    continue;
                }

                // A split maps nothing.
                let merges = edit.name.starts_with("4K") || edit.name == "2M to 8M";
                assert!(merges || where_to(&world, iova).is_none(), "{}", edit.name);

                // What one entry covered, of the old or of the new leaves.
                let entry = |lg2: u32| 1u64 << spec::shift(spec::level_of(lg2));
                let lost = entry(edit.from.trailing_zeros()).max(2 * M);
                for (page, before) in pages().zip(&before) {
                    if page / lost != iova / lost {
                        let now = where_to(&world, page);
                        assert_eq!(now, *before, "{}: {page:#x} at {moment}", edit.name);
                    }
                }
            }
        }
    }
    assert!(noticed > 10 * edits::<S>().count(), "{noticed}");
}

for_each_format! {
    a_mark_at_any_moment_is_kept,
    an_entry_that_is_unmapped_at_any_moment_breaks_no_other,
}
