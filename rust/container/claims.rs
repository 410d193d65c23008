// SPDX-License-Identifier: GPL-2.0

//! Claims: ranges at which calls are at work while they do not hold the container's lock, for they
//! wait for memory.
//!
//! Claims are served in the order in which they are made: whoever has one waits for those before it
//! that overlap, and so never for one another.

#![allow(unsafe_code)]

use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

use crate::{
    pgtable::IovaRange,
    sys::bindings, //
};

/// Which claim it is: they rise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClaimId(u64);

/// Its end can be waited for.
#[pin_data]
pub(super) struct ClaimEnd {
    #[pin]
    raw: Opaque<bindings::completion>,
}

// SAFETY: A completion is for more than one thread.
unsafe impl Send for ClaimEnd {}

// SAFETY: As above.
unsafe impl Sync for ClaimEnd {}

impl ClaimEnd {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                // SAFETY: It is valid for writing, and stays where it is.
                raw <- Opaque::ffi_init(|raw| unsafe { bindings::pgsize_completion_init(raw) }),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Sleeps. Fails with `EINTR` if a fatal signal came.
    pub(super) fn wait(&self) -> Result {
        // SAFETY: It is initialised.
        let ret = unsafe { bindings::pgsize_completion_wait_killable(self.raw.get()) };

        to_result(ret).map_err(|_| EINTR)
    }

    fn complete(&self) {
        // SAFETY: It is initialised.
        unsafe { bindings::complete_all(self.raw.get()) };
    }
}

/// A claim that is not made yet: all memory that it takes.
pub(super) struct NewClaim(Arc<ClaimEnd>);

impl NewClaim {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(ClaimEnd::new()?))
    }
}

/// What a claim is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To pin, or to change states: without others in the range.
    Work,
    /// To unmap, which is done at one go once those at work have ended.
    Unmap,
}

struct Claim {
    id: ClaimId,
    range: IovaRange,
    purpose: Purpose,
    end: Arc<ClaimEnd>,
}

impl Claim {
    fn overlaps(&self, range: IovaRange) -> bool {
        self.range.intersect(range).is_some()
    }
}

/// The claims of a container, in their order.
pub(super) struct Claims {
    held: KVec<Claim>,
    next: u64,
}

impl Claims {
    pub(crate) fn new() -> Self {
        Self {
            held: KVec::new(),
            next: 0,
        }
    }

    /// Makes a claim. Others that overlap may be there: see [`Container::claim`].
    pub(super) fn make(
        &mut self,
        range: IovaRange,
        purpose: Purpose,
        new: NewClaim,
    ) -> Result<ClaimId> {
        let id = ClaimId(self.next);
        let held = Claim {
            id,
            range,
            purpose,
            end: new.0,
        };

        self.held.push(held, GFP_KERNEL_ACCOUNT)?;
        self.next = self.next.wrapping_add(1);
        Ok(id)
    }

    /// Whether anybody is at work in `range`, or waits to unmap it.
    pub(super) fn any_in(&self, range: IovaRange) -> bool {
        self.held.iter().any(|held| held.overlaps(range))
    }

    /// Whether anybody is at work in `range`.
    pub(super) fn any_at_work_in(&self, range: IovaRange) -> bool {
        let mut held = self.held.iter();

        held.any(|held| held.overlaps(range) && held.purpose == Purpose::Work)
    }

    /// What is to end before `id` has its turn. Those that unmap do not wait for one another.
    pub(crate) fn before(
        &self,
        id: ClaimId,
        range: IovaRange,
        purpose: Purpose,
    ) -> Option<Arc<ClaimEnd>> {
        self.held
            .iter()
            .take_while(|held| held.id < id)
            .find(|held| {
                held.overlaps(range) && (held.purpose == Purpose::Work || purpose == Purpose::Work)
            })
            .map(|held| held.end.clone())
    }

    /// The end of a claim.
    pub(crate) fn end(&mut self, id: ClaimId) {
        self.held.retain(|held| {
            if held.id == id {
                held.end.complete();
            }
            held.id != id
        });
    }
}
