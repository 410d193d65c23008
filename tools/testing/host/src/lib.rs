// SPDX-License-Identifier: GPL-2.0

//! The part of vfio_pgsize that needs no kernel, from the sources of the module: the page-table
//! core, and, in tests only, arithmetic on ranges, with a stand-in for the kernel crate.

#![cfg_attr(not(test), no_std)]

#[deny(unsafe_code)]
#[path = "../../../../rust/pgtable/mod.rs"]
pub mod pgtable;

#[cfg(test)]
mod container;

#[cfg(test)]
mod iommu;

#[cfg(test)]
#[path = "../../../../rust/policy.rs"]
mod policy;

#[cfg(test)]
mod intervals;

/// Scheduling points, which are counted.
#[cfg(test)]
mod sys {
    pub(crate) mod sched {
        use std::cell::Cell;

        thread_local! {
            pub(crate) static POINTS: Cell<usize> = const { Cell::new(0) };
        }

        pub(crate) fn cond_resched() {
            POINTS.set(POINTS.get() + 1);
        }
    }
}

/// The part of process memory that mappings use.
#[cfg(test)]
mod mm {
    use std::sync::atomic::{
        AtomicUsize,
        Ordering, //
    };

    #[derive(Default)]
    pub(crate) struct Locked {
        /// Number of calls of `settle`.
        pub(crate) settled: AtomicUsize,
    }

    impl Locked {
        pub(crate) fn settle(&self) {
            self.settled.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct UserAddr(pub(crate) u64);

    impl UserAddr {
        pub(crate) fn after(self, pages: u64) -> Self {
            Self(self.0.wrapping_add(pages.wrapping_mul(4096)))
        }
    }
}
