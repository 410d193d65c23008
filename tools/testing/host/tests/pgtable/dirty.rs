// SPDX-License-Identifier: GPL-2.0

//! Reading dirty bits.

use pgtable_host::pgtable::IovaRange;

use crate::spec::{
    Spec,
    PAGE, //
};
use crate::world::{
    range,
    World, //
};

/// The dirty leaves are those of the model; leaves that are taken are clean then, and no others.
pub fn read_dirty<S: Spec>(world: &mut World<S>, first: u64, last: u64, take: bool) {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut add = |part: IovaRange| {
        let (start, end) = (part.start().get(), part.last().get());
        match found.last_mut() {
            Some(before) if before.1.wrapping_add(1) == start => before.1 = end,
            before => {
                assert!(before.is_none_or(|before| before.1 < start), "out of order");
                found.push((start, end));
            }
        }
    };
    let editor = world.bit_editor();
    let touched = if take {
        editor.take_dirty(range(first, last), &mut add)
    } else {
        editor.dirty(range(first, last), &mut add);
        None
    };
    world.arena.accept();

    let mut wanted: Vec<(u64, u64)> = Vec::new();
    let mut hull: Option<(u64, u64)> = None;
    for tile in world.model.overlapping_mut(first, last) {
        if tile.ad_bits & S::DIRTY == 0 {
            continue;
        }
        let (start, end) = (tile.iova.max(first), tile.last().min(last));
        match wanted.last_mut() {
            Some(before) if before.1 + 1 == start => before.1 = end,
            _ => wanted.push((start, end)),
        }
        if take {
            tile.ad_bits &= !S::DIRTY;
            hull = Some((hull.map_or(tile.iova, |hull| hull.0), tile.last()));
        }
    }
    assert_eq!(found, wanted);
    assert_eq!(touched, hull.map(|(first, last)| range(first, last)));
}

/// A range may begin and end within a leaf. Of a leaf that is a run of entries any may have the bit, also
/// one outside of the range.
fn a_leaf_is_dirty_from_any_part_of_it<S: Spec>() {
    const LEAF: u64 = 16;
    let marks = [0, 5, 15];
    let parts = [(0, 1), (1, 1), (3, 2), (14, 2), (0, LEAF)];

    for (mark, (first, pages)) in marks
        .into_iter()
        .flat_map(|mark| parts.map(|part| (mark, part)))
    {
        for take in [false, true] {
            let mut world = World::<S>::new(3);
            let at = 512 * PAGE;
            // Leaves of 64K, where the format has them.
            world.map(
                at,
                4 * LEAF * PAGE,
                1 << 30,
                S::READ | S::WRITE,
                (LEAF * PAGE) | PAGE,
            );
            world.mark(at + (LEAF + mark) * PAGE, S::DIRTY);
            let start = at + (LEAF + first) * PAGE;
            read_dirty(&mut world, start, start + (pages * PAGE - 1), take);
            world.check();
        }
    }
}

for_each_format! {
    a_leaf_is_dirty_from_any_part_of_it,
}
