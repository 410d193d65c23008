// SPDX-License-Identifier: GPL-2.0

//! Attaches and detaches groups.

use kernel::prelude::*;

use super::{
    joined_entry::Grain,
    mapping::Mapping,
    State, //
};
use crate::{
    iommu::{
        Group,
        Windows, //
    },
    pgtable::{
        ContigRun,
        IovaRange, //
    },
    rmp::{
        map_contig,
        Domain, //
    },
    sys::{
        num::unsupported,
        sched::cond_resched,
        testing::wants_own_domains, //
    }, //
};

impl State {
    /// Attaches `group` to a compatible domain, or to a new one that gets all mappings.
    ///
    /// If it is the first domain, there are no mappings.
    ///
    /// Sleeps. Fails with `EBUSY` if the address of a mapping's memory is invalid; `EINVAL` if it is
    /// attached already, if it reserves IOVAs that are mapped, or if it leaves no usable window; `EPERM` if its interrupts are not isolated and
    /// `unsafe_interrupts` is not set; `EOPNOTSUPP` if the container needs a page table that can be
    /// edited; `ENOMEM`, also if a lost leaf cannot be repaired; and as the IOMMU core.
    pub(super) fn attach(&mut self, group: Group, unsafe_interrupts: bool) -> Result {
        let (mut domain, windows) = self.domain_for(group, unsafe_interrupts)?;

        if !self.join(group, &mut domain)? {
            self.domains.reserve(1, GFP_KERNEL_ACCOUNT)?;
            // A lost leaf cannot be read.
            self.repair_lost()?;
            self.replay(&mut domain)?;
            self.domains.push(domain, GFP_KERNEL_ACCOUNT)?;
            self.choose_grain();
            self.shrink_leaves();
            // A default policy may follow from the start.
            self.keep_reserve();
        }
        self.windows = windows;
        Ok(())
    }

    /// Makes a domain for `group` and computes the windows with it, after all checks.
    ///
    /// Fails as [`Self::attach`].
    pub(super) fn domain_for(
        &self,
        group: Group,
        unsafe_interrupts: bool,
    ) -> Result<(Domain, Windows)> {
        if self.any_vaddr_invalid() {
            return Err(EBUSY);
        }
        if self.has_group(group) {
            return Err(EINVAL);
        }
        let mut domain = Domain::new(group)?;
        self.track_in(&mut domain)?;
        let windows = usable_windows(Iterator::chain(self.domains.iter(), [&domain]))?;

        if windows.as_slice().is_empty() {
            return Err(EINVAL);
        }
        let mut mappings = self.mappings.parts(IovaRange::ALL, Grain::Runs);
        if mappings.any(|mapping| !windows.admit(mapping.range)) {
            return Err(EINVAL);
        }
        drop(mappings);
        if !unsafe_interrupts && !group.has_isolated_msi() {
            pr_warn!("no interrupt remapping: load with allow_unsafe_interrupts=1 if the devices' users are trusted\n");
            return Err(EPERM);
        }
        if (self.chosen_policy().follows() || self.stateful != 0) && domain.table().is_none() {
            return Err(unsupported());
        }
        domain.enforce_coherency();
        Ok((domain, windows))
    }

    /// Moves `group` from `domain`, which has no other group, to a compatible one. Returns whether
    /// there is one.
    fn join(&mut self, group: Group, domain: &mut Domain) -> Result<bool> {
        for other in self.domains.iter_mut() {
            if wants_own_domains() || !other.is_compatible(domain) {
                continue;
            }
            domain.detach(group);
            if other.attach(group).is_ok() {
                return Ok(true);
            }
            domain.attach(group)?;
        }
        Ok(false)
    }

    /// Maps all mappings in `domain`, in which nothing is mapped. On failure nothing is.
    fn replay(&self, domain: &mut Domain) -> Result {
        let mut found = KVVec::with_capacity(1024, GFP_KERNEL_ACCOUNT)?;
        // Leaves that can not be cut must not cross the ends of pieces.
        let grain = match domain.table() {
            Some(_) => self.mappings.grain,
            None => Grain::Pieces,
        };
        let mut done = 0usize;
        let mut result = Ok(());

        for mapping in self.mappings.parts(IovaRange::ALL, grain) {
            result = self.replay_mapping(&mapping, domain, &mut found);
            if result.is_err() {
                break;
            }
            done = done.saturating_add(1);
        }
        if result.is_err() {
            let mappings = self.mappings.parts(IovaRange::ALL, grain);
            for mapped in mappings.take(done).filter_map(|mapping| mapping.mapped()) {
                domain.unmap_present(mapped);
            }
        }
        result
    }

    fn replay_mapping(
        &self,
        mapping: &Mapping,
        domain: &mut Domain,
        found: &mut KVVec<ContigRun>,
    ) -> Result {
        let Some(source) = self.source().and_then(|index| self.domains.get(index)) else {
            return Ok(());
        };
        let mut left = mapping.mapped();
        // A contiguous run may continue in the next piece.
        let mut held: Option<ContigRun> = None;
        let mut mapped: Option<IovaRange> = None;
        let mut put = |contig: ContigRun, domain: &mut Domain| {
            map_contig(
                domain,
                &self.policy,
                contig.range,
                contig.phys,
                mapping.access,
                &self.follower,
            )?;
            mapped = IovaRange::new(mapping.range.start(), contig.range.last());
            Ok(())
        };

        let mut result = Ok(());
        'all: while let Some(todo) = left.and_then(|left| source.skip_holes(left)) {
            let seen = source.contig_runs(todo, found);
            for contig in found.iter() {
                if let Some(before) = &mut held {
                    if before.is_followed_by(contig) {
                        before.range = before.range.hull(contig.range);
                        continue;
                    }
                    result = put(*before, domain);
                    if result.is_err() {
                        held = None;
                        break 'all;
                    }
                }
                held = Some(*contig);
            }
            left = todo.behind(seen.last());
            cond_resched();
        }
        if let Some(last) = held {
            result = put(last, domain);
        }
        if result.is_ok() && source.watches().lost_in(mapping.range) {
            // A leaf may have been lost before it was read, and would be missing in the new domain.
            result = Err(ENOMEM);
        }
        if let (Err(_), Some(range)) = (&result, mapped) {
            domain.unmap_present(range);
        }
        result
    }

    /// Detaches `group`. Frees its domain with its last group, and removes all mappings with the
    /// last group of the container. Returns whether mappings remain that are no longer mapped: the
    /// caller then settles their accounts. Sleeps. Cannot fail.
    pub(super) fn detach(&mut self, group: Group) -> bool {
        let mut stay = false;

        if self.detach_emulated(group) {
            return stay;
        }
        let Some(index) = self
            .domains
            .iter_mut()
            .position(|domain| domain.detach(group))
        else {
            return stay;
        };
        let is_empty = |domain: &Domain| domain.groups().is_empty();

        if self.domains.get(index).is_some_and(is_empty) {
            let exact = self.tracks_exactly();
            if self.domains.len() == 1 {
                stay = self.emulated.any();
                if stay {
                    self.keep_dirty(exact);
                    self.unmap_from_last();
                } else {
                    self.unmap_at_end();
                }
            }
            if let Ok(mut domain) = self.domains.remove(index) {
                self.inherit_dirty(&domain, exact);
                // Unmap before freeing: IOMMU_DEBUG_PAGEALLOC counts mapped pages.
                let mappings = self.mappings.overlapping(IovaRange::ALL);
                for mapped in mappings.filter_map(|mapping| mapping.mapped()) {
                    domain.unmap_present(mapped);
                }
            }
            self.choose_grain();
        }
        if self.domains.is_empty() && !stay {
            self.windows = Windows::none();
        } else if let Ok(windows) = usable_windows(self.domains.iter()) {
            // The windows can only grow. Without memory for the new ones, keep the old ones.
            self.windows = windows;
        }
        stay
    }

    /// Attaches a group of emulated devices.
    ///
    /// Fails with `EBUSY` if the address of a mapping's memory is invalid, `EINVAL` if it is attached
    /// already, `ENOMEM`, and as [`State::separate`].
    pub(super) fn attach_emulated(&mut self, group: Group) -> Result {
        if self.any_vaddr_invalid() {
            return Err(EBUSY);
        }
        if self.has_group(group) {
            return Err(EINVAL);
        }
        self.emulated.groups.reserve(1, GFP_KERNEL_ACCOUNT)?;
        // Pins refer to single mappings.
        self.separate(IovaRange::ALL)?;
        self.emulated.groups.push(group, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Whether `group` is attached.
    fn has_group(&self, group: Group) -> bool {
        self.domains.iter().any(|domain| domain.has(group)) || self.emulated.groups.contains(&group)
    }

    /// Detaches `group` if it is a group of emulated devices. Returns whether it was. Removes all
    /// mappings with the last group of the container.
    fn detach_emulated(&mut self, group: Group) -> bool {
        if !self.emulated.groups.contains(&group) {
            return false;
        }
        self.emulated.groups.retain(|other| *other != group);
        if !self.emulated.any() && self.domains.is_empty() {
            self.unmap_at_end();
        }
        true
    }
}

impl State {
    /// Chooses how joined mappings are taken apart: without holes if a page table cannot be read.
    pub(super) fn choose_grain(&mut self) {
        let readable = self.domains.iter().all(|domain| domain.table().is_some());

        self.mappings.grain = match readable {
            true => Grain::Spans,
            false => Grain::Runs,
        };
    }
}

/// The windows that all domains support, without the reserved regions of their groups.
fn usable_windows<'a>(domains: impl Iterator<Item = &'a Domain>) -> Result<Windows> {
    let mut windows = Windows::everything()?;

    for domain in domains {
        windows.confine(domain.aperture().ok_or(EINVAL)?)?;
        for group in domain.groups() {
            group.reserved(|hole| windows.exclude(hole))?;
        }
    }
    Ok(windows)
}
