// SPDX-License-Identifier: GPL-2.0

//! Following the RMP, in process context: who follows, and what of it is followed.

#![allow(unsafe_code)]

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    bindings,
    cursor::Done,
    domain::{
        give_way,
        rest,
        Access,
        Domain, //
    },
    follower::Follower,
    num::unsupported,
    pgtable::{
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
    rmap::Guard,
    rmp::Block,
    smash::{
        large_leaf,
        AROUND, //
    },
    stretch::Stretch,
    testing::{
        step,
        Step, //
    },
    watch::{
        Owner,
        Standing,
        Watch, //
    },
    watches::NewWatch, //
};

kernel::sync::global_lock! {
    // SAFETY: Initialised when the module is loaded, before anything else.
    pub(crate) unsafe(uninit) static HOOKS: Mutex<Hooks> = Hooks::NONE;
}

/// Who wants the hook, and whether it is there.
pub(crate) struct Hooks {
    users: u32,
    registered: bool,
}

impl Hooks {
    const NONE: Self = Self {
        users: 0,
        registered: false,
    };

    /// Shows in debugfs how many follow.
    fn tell(&self) {
        // SAFETY: The lock is held: `self` is behind it.
        unsafe { bindings::pgsize_debug_followers(self.users) };
    }
}

/// Whether what is followed is to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Look {
    No,
    /// Calls that nobody saw may have taken effect late, or SNP is on again.
    Again,
    /// A call went by unseen, or SNP was switched off: the VMM is to be told.
    Tell,
}

impl Look {
    /// The one that has this number.
    pub(crate) fn of(number: u32) -> Self {
        match number {
            0 => Self::No,
            1 => Self::Again,
            _ => Self::Tell,
        }
    }
}

/// The hook is registered as long as one of these is there, and some seconds more: to put it in and
/// take it out patches the kernel's code and waits for all tasks, which nobody is to have done at will.
pub(crate) struct Hook(());

impl Hook {
    /// May sleep. Fails with `EOPNOTSUPP` where there is nothing to follow: on no SNP host, while SNP
    /// is off, or where the kernel's functions can not be probed.
    pub(crate) fn new() -> Result<Self> {
        let mut hooks = HOOKS.lock();

        if !hooks.registered {
            Guard::lock().reset();
            // SAFETY: The lock is held, and it is not registered.
            kernel::error::to_result(unsafe { bindings::pgsize_hook_register() })?;
            hooks.registered = true;
        } else if hooks.users == 0 {
            // SAFETY: The lock is held, and it is registered and idle.
            unsafe { bindings::pgsize_hook_resume() };
        }
        hooks.users = hooks.users.saturating_add(1);
        hooks.tell();
        Ok(Self(()))
    }

    /// Whether a call went by unseen since this was last asked, while anybody follows, or may have; or
    /// SNP was switched off, or on again. May sleep.
    pub(crate) fn look() -> Look {
        let hooks = HOOKS.lock();

        if hooks.users == 0 {
            return Look::No;
        }
        // SAFETY: The lock is held.
        match unsafe { bindings::pgsize_missed_take() } {
            bindings::pgsize_look_PGSIZE_LOOK_NOT => Look::No,
            bindings::pgsize_look_PGSIZE_LOOK_AGAIN => Look::Again,
            _ => Look::Tell,
        }
    }

    /// Takes the hook out if nobody wants it. May sleep.
    pub(crate) fn take_out() {
        let mut hooks = HOOKS.lock();

        if hooks.users == 0 && hooks.registered {
            // SAFETY: The lock is held, and it is registered.
            unsafe { bindings::pgsize_hook_unregister() };
            hooks.registered = false;
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let mut hooks = HOOKS.lock();

        hooks.users = hooks.users.saturating_sub(1);
        hooks.tell();
        if hooks.users == 0 {
            // SAFETY: The lock is held, and it is registered.
            unsafe { bindings::pgsize_hook_idle() };
        }
    }
}

/// Nobody has wanted the hook for some seconds: see `worker.c`.
#[no_mangle]
extern "C" fn pgsize_hook_expire() {
    Hook::take_out();
}

/// Has the hook watch `stretch`, as pending, if there are blocks in it that leaves of 2M can have.
///
/// `owner` is the domain's in which the result is dropped or put.
pub(crate) fn watch(stretch: Stretch, owner: &Arc<Owner>) -> Result<Option<NewWatch>> {
    let Some(blocks) = stretch.blocks() else {
        return Ok(None);
    };
    let at = stretch.phys_at(blocks.start());
    // SAFETY: The domain drops its watches before it is freed.
    let new = unsafe { NewWatch::new(blocks, at, owner.clone()) }?;

    Ok(Some(new))
}

/// The same, of what is not followed yet.
///
/// Fails with `EMLINK` if a frame has too many mappings that are followed in its container.
pub(crate) fn watch_counted(stretch: Stretch, owner: &Arc<Owner>) -> Result<Option<NewWatch>> {
    let new = watch(stretch, owner)?;

    match &new {
        Some(watch) if is_crowded(watch) => Err(EMLINK),
        _ => Ok(new),
    }
}

/// How many mappings of a frame are followed in a container, of all its domains, at most: whoever
/// changes the frame's RMP entry waits for all of them.
const MOST: u32 = 1024;

/// Whether a frame of `watch` has more than that.
fn is_crowded(watch: &Watch) -> bool {
    let more = |blocks: (u32, u32)| {
        let mut count = 0u32;
        Guard::lock().each_in(blocks, false, |guard, other| {
            let counts = core::ptr::eq(other.follower(), watch.follower())
                && guard.marks(other).standing != Standing::Leaving;
            count = count.saturating_add(counts.into());
            if count > MOST {
                Done::All
            } else {
                Done::Little
            }
        });
        rest();
        count > MOST
    };
    let (first, last) = watch.numbers();

    // So many in all, mostly, and there is no need to count block by block.
    more((first, last)) && (first..=last).any(|number| more((number, number)))
}

/// Which leaves over a block agree with the RMP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is whole.
    Any,
    /// A call is under way, on this block or on another one: it may be about to break. The worker is to
    /// look at it later.
    SmallForNow,
    /// It is broken.
    Small,
}

impl Fit {
    pub(crate) fn of(block: Block) -> Self {
        if Guard::lock().is_in_transit(block) {
            return Self::SmallForNow;
        }
        Self::of_still(block)
    }

    /// The same, with the lock held.
    pub(crate) fn under(guard: &mut Guard, block: Block) -> Self {
        if guard.is_in_transit(block) {
            return Self::SmallForNow;
        }
        Self::of_still(block)
    }

    fn of_still(block: Block) -> Self {
        if block.is_broken() {
            Self::Small
        } else {
            Self::Any
        }
    }
}

impl Domain {
    /// Who owns what is followed here by `rule`.
    pub(crate) fn owner(&mut self, rule: Rule, follower: &Arc<Follower>) -> Result<Arc<Owner>> {
        let domain = self.raw();

        self.watches_mut().owner(domain, rule.merging(), follower)
    }

    /// Maps `range` to the frames from `phys` on with leaves of `rule`, of 4K where the RMP wants it,
    /// and follows it; all of it, or nothing.
    pub(crate) fn map_followed(
        &mut self,
        range: IovaRange,
        phys: Phys,
        access: Access,
        rule: Rule,
        follower: &Arc<Follower>,
    ) -> Result {
        step(Step::MapBegins);
        // From here on what breaks is noted.
        let stretch = Stretch { range, phys };
        let watch = watch_counted(stretch, &self.owner(rule, follower)?)?;
        let blocks = watch.as_ref().map(|watch| watch.range());
        let mut left = Some(range);
        let mut mapped = None;

        if let Some(watch) = watch {
            self.watches_mut().insert(watch);
        }
        step(Step::MapWatched);

        let mut result = Ok(());
        let mut doubtful = false;
        while let Some(todo) = left {
            let (part, fit) = alike_part(todo, blocks, |iova| phys.at(range.start(), iova));
            let sizes = if fit == Fit::Any {
                rule.sizes
            } else {
                PageSizes::ONLY_4K
            };
            doubtful |= fit == Fit::SmallForNow;
            step(Step::MapLooked);

            let at = phys.at(range.start(), part.start());
            result = self.map(part, at, access, sizes).and_then(|()| {
                mapped = IovaRange::new(range.start(), part.last());
                step(Step::MapMapped);
                give_way()
            });
            if result.is_err() {
                break;
            }
            left = todo.behind(part.last());
        }
        if let Some(watch) = self.watches().first_in(range).filter(|_| doubtful) {
            Guard::lock().doubt(watch);
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

    /// Leaves the stretches of `range` to the hook, once they agree with the RMP.
    fn publish(&self, range: IovaRange) -> Result {
        for watch in self.watches().overlapping(range) {
            loop {
                step(Step::MapPublishes);
                {
                    let mut guard = Guard::lock();
                    if guard.marks(watch).standing != Standing::Hit {
                        guard.go_live(watch);
                        break;
                    }
                    guard.marks(watch).standing = Standing::Pending;
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
                        table.edit(|editor| editor.carve(block, PageSizes::ONLY_4K, AROUND))?;
                    }
                    if fit == Fit::SmallForNow {
                        Guard::lock().doubt(watch);
                    }
                }
            }
            step(Step::MapPublished);
        }
        Ok(())
    }

    /// Makes ready to follow what is mapped in `range`, of one mapping, where `policy` says so, and
    /// nothing else. Until [`Watches::replace`](crate::watches::Watches::replace) is given the result,
    /// and if it never is ([`Watches::set_leaving`](crate::watches::Watches::set_leaving)), all is
    /// followed as before. `None`: a leaf is lost, which is to be repaired first.
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
            if !self.cut_ends_live(segment.range)? {
                return Ok(None);
            }
        }
        self.watches().set_leaving(range, true);
        for segment in followed() {
            let owner = self.owner(segment.rule, follower)?;
            let mut left = Some(segment.range);
            while let Some(todo) = left.and_then(|left| self.skip_holes(left)) {
                let seen = self.stretches(todo, &mut found);
                for stretch in &found {
                    if let Some(watch) = watch_counted(*stretch, &owner)? {
                        new.push(watch, GFP_KERNEL_ACCOUNT)?;
                    }
                    step(Step::PolicyWatched);
                }
                left = todo.behind(seen.last());
                rest();
            }
        }
        // Only what was there could be read. What is lost from now on lies in one of the new ones, or is
        // to be followed no more.
        Ok((!self.watches().lost_in(range)).then_some(new))
    }
}

/// The blocks of 2M in a range that consists of them.
pub(crate) fn blocks_of(range: IovaRange) -> impl Iterator<Item = IovaRange> {
    let mut left = Some(range);

    core::iter::from_fn(move || {
        let todo = left?;
        let block = IovaRange::block(todo.start(), PageSize::SIZE_2M);
        left = todo.behind(block.last());
        Some(block)
    })
}

/// How far from the start of `todo` on the same leaves agree with the RMP; and which.
fn alike_part(
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
        rest();
    }
    (IovaRange::new(todo.start(), last).unwrap_or(todo), fit)
}
