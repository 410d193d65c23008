// SPDX-License-Identifier: GPL-2.0

//! Starts and stops dirty tracking, and keeps it exact when a domain is added or removed.

use kernel::prelude::*;

use super::{
    tracking::Tracking,
    written::Written,
    Container,
    State, //
};
use crate::{
    iommu::Reading,
    pgtable::{
        IovaRange,
        PageSizes, //
    },
    rmp::Domain, //
};

/// Maximum number of pages of a mapping, as in type1: no bitmap has more bits.
const MOST_PAGES: u64 = 0x7fff_ffff;

impl Container {
    /// Starts or stops dirty tracking. Does nothing if it is started or stopped already.
    ///
    /// The start fails with `EINVAL` if a mapping is too large, and as [`State::set_policy`]. The stop
    /// fails only with `EINTR`: leaves that cannot be merged stay small.
    pub(crate) fn track(&self, on: bool) -> Result {
        let mut state = self.lock()?;

        match on {
            true => state.start_tracking(),
            false => {
                state.stop_tracking();
                Ok(())
            }
        }
    }
}

impl State {
    /// Sets which sizes leaves may have while tracking is on. With `apply`, converts what is mapped.
    ///
    /// Watches stay as they are: leaves that follow the RMP are of 4K meanwhile, whatever the sizes.
    ///
    /// Fails as [`State::set_policy`].
    pub(crate) fn set_tracking_sizes(&mut self, sizes: PageSizes, apply: bool) -> Result {
        let good = sizes == PageSizes::ALL
            || self.supported().contains(sizes) && sizes.contains(PageSizes::ONLY_4K);
        if !good {
            return Err(EINVAL);
        }
        let old = core::mem::replace(&mut self.tracking_sizes, sizes);
        let result = self.in_force(self.chosen_policy()).and_then(|policy| {
            if apply && self.tracking.as_ref().is_some_and(|now| now.small) {
                self.convert_all(&policy)?;
            }
            self.policy = policy;
            Ok(())
        });

        if result.is_err() {
            self.tracking_sizes = old;
        }
        result
    }

    /// Whether dirty bits say which pages were written.
    pub(super) fn is_exact(&self) -> bool {
        !self.domains.is_empty() && self.domains.iter().all(|domain| domain.can_track())
    }

    fn start_tracking(&mut self) -> Result {
        if self.tracking.is_some() {
            return Ok(());
        }
        let mut single = self.mappings.single_in(IovaRange::ALL);
        if single.any(|mapping| is_too_large(mapping.range)) {
            return Err(EINVAL);
        }
        drop(single);
        let chosen = self.policy.with_rule(self.policy.rule())?;
        let small = self.is_exact();

        if small {
            // Split before the hardware sets dirty bits: new leaves are clean then.
            self.make_small()?;
        }
        let result = self.start_domains();
        self.tracking = Some(Tracking { chosen, small });
        self.emulated.write_pinned(IovaRange::ALL);
        if result.is_err() {
            self.stop_tracking();
        }
        result
    }

    /// Checks a new mapping. Fails with `EINVAL` if tracking is on and the mapping is too large for it.
    pub(super) fn check_trackable(&self, range: IovaRange) -> Result {
        if self.tracking.is_some() && is_too_large(range) {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Splits leaves, and puts the policy in force that holds while tracking is on.
    fn make_small(&mut self) -> Result {
        let policy = self.policy.limited(self.tracking_sizes)?;
        let result = self.split_all(&policy);

        match result {
            Ok(()) => self.policy = policy,
            // What is small already may stay so.
            Err(_) => drop(self.restore_sizes()),
        }
        result
    }

    /// Gives all that is mapped the leaves of the policy in force.
    fn restore_sizes(&mut self) -> Result {
        let policy = self.policy.with_rule(self.policy.rule())?;

        self.convert_all(&policy)
    }

    /// Switches dirty tracking on in all domains that can. Clears the dirty bits that are set.
    fn start_domains(&mut self) -> Result {
        for domain in self.domains.iter_mut() {
            domain.track(true)?;
        }
        for domain in self.domains.iter().filter(|domain| domain.is_tracking()) {
            let mappings = self.mappings.overlapping(IovaRange::ALL);

            domain.flushed(|gather| {
                for mapped in mappings.filter_map(|mapping| mapping.mapped()) {
                    domain.dirty(mapped, Reading::Take, gather, |_| {});
                }
            });
        }
        Ok(())
    }

    fn stop_tracking(&mut self) {
        let Some(tracking) = self.tracking.take() else {
            return;
        };

        self.emulated.written = Written::new();
        for domain in self.domains.iter_mut() {
            // It does not fail if the start did not (`amd/iommu.c: amd_iommu_set_dirty_tracking`).
            kernel::warn_on!(domain.track(false).is_err());
        }
        if !tracking.small {
            return;
        }
        self.policy = tracking.chosen;
        // Without memory, or after a fatal signal: leaves stay small, which the policy allows.
        if self.restore_sizes().is_err() {
            pr_warn!("not all leaves are as large again as they were before dirty tracking\n");
        }
        self.keep_reserve();
    }

    /// Starts tracking in `domain`, which is new and empty, if tracking is on in the container.
    pub(super) fn track_in(&self, domain: &mut Domain) -> Result {
        match self.tracking {
            Some(_) => domain.track(true),
            None => Ok(()),
        }
    }

    /// Copies the dirty bits of `domain`, which was removed, to another domain. `was_exact` is the value of
    /// [`State::tracks_exactly`] before it was removed.
    pub(super) fn inherit_dirty(&mut self, domain: &Domain, was_exact: bool) {
        if self.tracking.is_none() || !self.is_exact() {
            return;
        }
        let Some(heir) = self.domains.first() else {
            return;
        };
        for mapping in self.mappings.overlapping(IovaRange::ALL) {
            let Some(mapped) = mapping.mapped() else {
                continue;
            };
            if was_exact {
                each_note(domain, mapped, Reading::Peek, |part| {
                    heir.note_written(part)
                });
            } else {
                // It had no dirty bits: devices may have written any page.
                heir.note_written(mapped);
            }
        }
        self.shrink_leaves();
    }

    /// A domain was added or removed. If all domains have dirty bits now, splits the leaves that are
    /// large.
    pub(super) fn shrink_leaves(&mut self) {
        let is_large = |tracking: &Tracking| !tracking.small;

        // If this fails, leaves stay large: more pages count as written than were, never fewer.
        if self.is_exact()
            && self.tracking.as_ref().is_some_and(is_large)
            && self.make_small().is_ok()
        {
            if let Some(tracking) = &mut self.tracking {
                tracking.small = true;
            }
        }
    }

    /// Whether tracking is on, and by dirty bits.
    pub(super) fn tracks_exactly(&self) -> bool {
        self.tracking.is_some() && self.is_exact()
    }
}

/// Whether a mapping of `range` has no bitmap.
fn is_too_large(range: IovaRange) -> bool {
    range.pages() > MOST_PAGES
}

/// Calls `each` with the dirty parts of `range`, and flushes.
pub(super) fn each_note(
    domain: &Domain,
    range: IovaRange,
    reading: Reading,
    each: impl FnMut(IovaRange),
) {
    domain.flushed(|gather| domain.dirty(range, reading, gather, each));
}
