// SPDX-License-Identifier: GPL-2.0

//! Maps with leaves that the policy allows and that agree with the RMP.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    domain::Domain,
    entry::Block,
    follower::Follower,
    lock::Guard,
    split::{
        large_leaf,
        OUTER_SIZES, //
    },
    watch::WatchState,
    watches::{
        watch_counted,
        Fit,
        NewWatch, //
    }, //
};
use crate::{
    iommu::{
        convert_new,
        Access,
        PIECE, //
    },
    pgtable::{
        blocks_of,
        first_piece,
        ContigRun,
        Iova,
        IovaRange,
        PageSize,
        PageSizes,
        Phys, //
    },
    policy::{
        Policy,
        Rule, //
    },
    sys::{
        num::unsupported,
        sched::{
            cond_resched,
            cond_resched_killable, //
        },
        testing::{
            step,
            Step, //
        }, //
    }, //
};

impl Domain {
    /// Maps `range` to the frames from `phys` on, with leaves of `rule`, or 4K where the RMP
    /// requires it, and follows it. All or nothing. Sleeps. Fails as [`map_contig`].
    fn map_followed(
        &mut self,
        range: IovaRange,
        phys: Phys,
        access: Access,
        rule: Rule,
        follower: &Arc<Follower>,
    ) -> Result {
        step(Step::MapBegins);
        // From here on a call that breaks a block hits the watch.
        let contig = ContigRun { range, phys };
        let watch = watch_counted(contig, &self.owner(rule, follower)?)?;
        let blocks = watch.as_ref().map(|watch| watch.range());
        let mut left = Some(range);
        let mut mapped = None;

        if let Some(watch) = watch {
            self.watches_mut().insert(watch);
        }
        step(Step::MapWatched);

        let mut result = Ok(());
        let mut recheck = false;
        while let Some(todo) = left {
            let (part, fit) = uniform_part(todo, blocks, |iova| phys.at(range.start(), iova));
            let sizes = if fit == Fit::Any {
                rule.sizes
            } else {
                PageSizes::ONLY_4K
            };
            recheck |= fit == Fit::SmallForNow;
            step(Step::MapLooked);

            let at = phys.at(range.start(), part.start());
            result = self.map(part, at, access, sizes).and_then(|()| {
                mapped = IovaRange::new(range.start(), part.last());
                step(Step::MapMapped);
                cond_resched_killable()
            });
            if result.is_err() {
                break;
            }
            left = todo.behind(part.last());
        }
        if let Some(watch) = self.watches().first_in(range).filter(|_| recheck) {
            Guard::lock().set_recheck(watch);
        }
        let result = result.and_then(|()| self.publish(range));
        if result.is_err() {
            self.watches_mut().remove_in(range);
            if let Some(mapped) = mapped {
                self.unmap(mapped);
            }
        }
        result
    }

    /// Makes the watches of `range` live, after the leaves agree with the RMP. Sleeps. Fails with
    /// `ENOMEM`.
    fn publish(&self, range: IovaRange) -> Result {
        for watch in self.watches().overlapping(range) {
            loop {
                step(Step::MapPublishes);
                {
                    let mut guard = Guard::lock();
                    if guard.marks(watch).state != WatchState::Hit {
                        guard.go_live(watch);
                        break;
                    }
                    guard.marks(watch).state = WatchState::Pending;
                }
                step(Step::MapHit);
                let table = self.table().ok_or_else(unsupported)?;
                for block in blocks_of(watch.range()) {
                    let at = watch.phys_at(block.start()).ok_or(EFAULT)?;

                    if large_leaf(&table, block).is_none() {
                        continue;
                    }
                    let fit = Fit::of(Block::of(at));
                    if fit != Fit::Any {
                        table.edit(|editor| {
                            editor.split_range(block, PageSizes::ONLY_4K, OUTER_SIZES)
                        })?;
                    }
                    if fit == Fit::SmallForNow {
                        Guard::lock().set_recheck(watch);
                    }
                }
            }
            step(Step::MapPublished);
        }
        Ok(())
    }

    /// Prepares to follow what is mapped in `range`, of one mapping, where `policy` says so and
    /// nowhere else. The result is for [`Watches::replace`](super::watches::Watches::replace).
    /// Until then, or after
    /// [`Watches::set_being_replaced`](super::watches::Watches::set_being_replaced) undoes it, the
    /// old watches are in force.
    ///
    /// Returns `None` if a leaf is lost: repair it and try again. Sleeps. Fails with `ENOMEM` and
    /// `EMLINK`.
    pub(crate) fn prepare(
        &mut self,
        range: IovaRange,
        policy: &Policy,
        follower: &Arc<Follower>,
    ) -> Result<Option<KVVec<NewWatch>>> {
        let mut found = KVVec::with_capacity(256, GFP_KERNEL_ACCOUNT)?;
        let mut new = KVVec::new();
        let followed = || {
            policy
                .segments(range)
                .filter(|segment| segment.rule.follows())
        };

        for segment in followed() {
            if !self.split_boundaries_live(segment.range)? {
                return Ok(None);
            }
        }
        self.watches().set_being_replaced(range, true);
        for segment in followed() {
            let owner = self.owner(segment.rule, follower)?;
            let mut left = Some(segment.range);
            while let Some(todo) = left.and_then(|left| self.skip_holes(left)) {
                let seen = self.contig_runs(todo, &mut found);
                for contig in &found {
                    if let Some(watch) = watch_counted(*contig, &owner)? {
                        new.push(watch, GFP_KERNEL_ACCOUNT)?;
                    }
                    step(Step::PolicyWatched);
                }
                left = todo.behind(seen.last());
                cond_resched();
            }
        }
        // A leaf that was lost before could not be read. One that is lost from now on lies in a new
        // watch, or is not followed any more.
        Ok((!self.watches().lost_in(range)).then_some(new))
    }
}

/// The first part of `todo` for which the RMP requires the same leaves, and what it requires.
fn uniform_part(
    todo: IovaRange,
    blocks: Option<IovaRange>,
    phys_at: impl Fn(Iova) -> Phys,
) -> (IovaRange, Fit) {
    let fit_at = |iova: Iova| {
        let block = IovaRange::block(iova, PageSize::SIZE_2M);
        let followed = blocks.is_some_and(|blocks| blocks.covers(block));

        if followed {
            Fit::of(Block::of(phys_at(block.start())))
        } else {
            Fit::Any
        }
    };
    let fit = fit_at(todo.start());
    let mut last = todo.last().min(todo.start().align_last(PageSize::SIZE_2M));

    while let Some(next) = last.next().filter(|next| *next <= todo.last()) {
        if fit_at(next) != fit {
            break;
        }
        last = todo.last().min(next.align_last(PageSize::SIZE_2M));
        cond_resched();
    }
    (IovaRange::new(todo.start(), last).unwrap_or(todo), fit)
}

/// Maps `range` to the frames from `phys` on, as `policy` says. All or nothing.
///
/// Sleeps. Fails as [`iommu::Domain::map`](crate::iommu::Domain::map), with `EMLINK` if a frame has
/// too many watches, and with `EINTR` on a fatal signal.
pub(crate) fn map_contig(
    domain: &mut Domain,
    policy: &Policy,
    range: IovaRange,
    phys: Phys,
    access: Access,
    follower: &Arc<Follower>,
) -> Result {
    for segment in policy.segments(range) {
        let sizes = domain.usable(segment.rule.sizes);
        let rule = Rule {
            sizes,
            ..segment.rule
        };
        let at = |iova| phys.at(range.start(), iova);
        let size = piece_size(segment.range.start(), at(segment.range.start()), sizes);
        let mut left = Some(segment.range);

        while let Some(todo) = left {
            let piece = first_piece(todo, size);
            let result = if rule.follows() {
                domain.map_followed(piece, at(piece.start()), access, rule, follower)
            } else {
                map_piece(domain, piece, at(piece.start()), access, sizes)
            };
            let signal = cond_resched_killable();

            if let Err(error) = result.and(signal) {
                let end = if result.is_ok() {
                    Some(piece.last())
                } else {
                    piece.start().before()
                };
                if let Some(mapped) = end.and_then(|last| IovaRange::new(range.start(), last)) {
                    domain.unmap_present(mapped);
                }
                return Err(error);
            }
            left = todo.behind(piece.last());
        }
    }
    Ok(())
}

/// The size of the aligned blocks that are mapped between two checks for signals. No leaf crosses
/// their ends if the memory is contiguous.
fn piece_size(iova: Iova, phys: Phys, sizes: PageSizes) -> PageSize {
    let differ = iova.get() ^ phys.get();
    let alike = PageSizes::from_bits(differ ^ differ.wrapping_sub(1));

    sizes
        .intersect(alike)
        .largest()
        .map_or(PIECE, |size| size.max(PIECE))
}

/// Maps a part of a contiguous run. All or nothing.
fn map_piece(
    domain: &mut Domain,
    range: IovaRange,
    phys: Phys,
    access: Access,
    sizes: PageSizes,
) -> Result {
    const SIZE: PageSize = PageSize::SIZE_2M;
    let large = sizes.up_to(SIZE) != sizes || sizes.allows(SIZE);
    let blocks = ContigRun { range, phys }.blocks();

    if large || blocks.is_none() || domain.table().is_none() {
        return domain.map(range, phys, access, sizes);
    }
    // Map large leaves, then split them: filling a table is several times as fast as mapping leaf
    // by leaf. Nothing uses the range yet.
    domain.map(range, phys, access, sizes.union(PageSizes::only(SIZE)))?;
    convert_new(domain, range, sizes).inspect_err(|_| {
        domain.unmap(range);
    })
}
