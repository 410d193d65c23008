// SPDX-License-Identifier: GPL-2.0

//! Claims: ranges on which calls work while they sleep without the container's lock.
//!
//! A claim waits only for overlapping claims that were made earlier, so claims cannot deadlock.

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

/// Identifies a claim. Later claims have higher numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClaimId(u64);

/// The end of a claim, for waiters.
#[pin_data]
pub(super) struct ClaimEnd {
    #[pin]
    raw: Opaque<bindings::completion>,
}

// SAFETY: A completion may be used by several threads.
unsafe impl Send for ClaimEnd {}

// SAFETY: As above.
unsafe impl Sync for ClaimEnd {}

impl ClaimEnd {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                // SAFETY: The pointer is valid for writes, and the completion is pinned.
                raw <- Opaque::ffi_init(|raw| unsafe { bindings::pgsize_completion_init(raw) }),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Waits for the end. Sleeps. Fails with `EINTR` on a fatal signal.
    pub(super) fn wait(&self) -> Result {
        // SAFETY: The completion is initialized.
        let ret = unsafe { bindings::pgsize_completion_wait_killable(self.raw.get()) };

        to_result(ret).map_err(|_| EINTR)
    }

    fn complete(&self) {
        // SAFETY: The completion is initialized.
        unsafe { bindings::complete_all(self.raw.get()) };
    }
}

/// The memory of a claim, allocated in advance.
pub(super) struct NewClaim(Arc<ClaimEnd>);

impl NewClaim {
    /// Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(ClaimEnd::new()?))
    }
}

/// The kind of a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Pins memory or changes page states. Excludes all others.
    Work,
    /// Unmaps. Waits for `Work`, and then does not drop the lock.
    Unmap,
    /// To pin for an emulated device: as `Work`, but fails where devices are being told to unpin.
    Pin,
    /// To populate the first domain: as `Work`, and new mappings wait for it.
    Attach,
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

/// The claims of a container, in order of creation.
pub(super) struct Claims {
    held: KVec<Claim>,
    next: u64,
}

impl Claims {
    /// No claims.
    pub(crate) fn new() -> Self {
        Self {
            held: KVec::new(),
            next: 0,
        }
    }

    /// Makes a claim. Earlier claims may overlap: [`Container::claim`](super::Container::claim)
    /// waits for them. Fails with `ENOMEM`.
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

    /// Whether any claim overlaps `range`.
    pub(super) fn any_in(&self, range: IovaRange) -> bool {
        self.held.iter().any(|held| held.overlaps(range))
    }

    /// Whether a claim for [`Purpose::Work`] overlaps `range`.
    pub(super) fn any_at_work_in(&self, range: IovaRange) -> bool {
        let mut held = self.held.iter();

        held.any(|held| held.overlaps(range) && held.purpose != Purpose::Unmap)
    }

    /// The end of a claim that new mappings have to wait for.
    pub(super) fn attaching(&self) -> Option<Arc<ClaimEnd>> {
        let mut held = self.held.iter();
        let attaching = held.find(|held| held.purpose == Purpose::Attach)?;

        Some(attaching.end.clone())
    }

    /// The end of an earlier claim that `id` has to wait for. Claims to unmap do not wait for each
    /// other.
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
                let both_unmap = held.purpose == Purpose::Unmap && purpose == Purpose::Unmap;
                held.overlaps(range) && !both_unmap
            })
            .map(|held| held.end.clone())
    }

    /// Ends a claim, and wakes its waiters.
    pub(crate) fn end(&mut self, id: ClaimId) {
        self.held.retain(|held| {
            if held.id == id {
                held.end.complete();
            }
            held.id != id
        });
    }
}
