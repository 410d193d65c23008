// SPDX-License-Identifier: GPL-2.0

//! The last domain of a container that keeps its mappings, because it has emulated devices.

use super::{
    dirty::lost_in,
    track::each_note,
    State, //
};
use crate::{
    iommu::Reading,
    pgtable::IovaRange, //
};

impl State {
    /// The last domain, of which no group is left, goes, and mappings stay: what is noted in it is to be
    /// told nevertheless. `was_exact`: as for [`State::inherit_dirty`].
    pub(super) fn keep_dirty(&mut self, was_exact: bool) {
        let Self {
            domains,
            mappings,
            emulated,
            ..
        } = self;
        let [domain] = domains.as_slice() else {
            return;
        };

        for mapped in mappings
            .overlapping(IovaRange::ALL)
            .filter_map(|mapping| mapping.mapped())
            .filter(|_| self.tracking.is_some())
        {
            let written = &mut emulated.written;
            if !was_exact {
                written.add(mapped);
                continue;
            }
            each_note(domain, mapped, Reading::Peek, |part| written.add(part));
            for lost in lost_in(domain, mapped) {
                written.add(lost);
            }
        }
    }

    /// Unmaps and unpins everything from the last domain. The mappings stay.
    pub(super) fn unmap_from_last(&mut self) {
        let mut left = Some(IovaRange::ALL);

        while let Some(mapping) = left.and_then(|left| self.mappings.first_in(left)) {
            let mapping = mapping.copy();
            left = IovaRange::ALL.behind(mapping.range.last());
            if let Some(mapped) = mapping.mapped() {
                self.clear(&mapping, mapped);
            }
            let Some(now) = self.mappings.first_in_mut(mapping.range) else {
                continue;
            };
            // INVARIANT: Nothing of it is mapped, and the caller removes the domain.
            now.mixed |= !now.stateful;
            if let Some(in_progress) = &mut now.in_progress {
                in_progress.mapped = None;
            }
        }
        self.emulated.charge_alone(&self.mappings);
    }
}
