// SPDX-License-Identifier: GPL-2.0

//! What of vfio_pgsize needs no kernel, from the very sources that the module is built of: the
//! page-table core, and, in tests alone, what is arithmetic on ranges, with a stand-in for the
//! kernel's crate.

#![cfg_attr(not(test), no_std)]

#[deny(unsafe_code)]
#[path = "../../../../rust/pgtable/mod.rs"]
pub mod pgtable;

#[cfg(test)]
#[allow(dead_code)]
#[path = "../../../../rust/mapping.rs"]
mod mapping;

#[cfg(test)]
#[path = "../../../../rust/policy.rs"]
mod policy;

#[cfg(test)]
#[path = "../../../../rust/windows.rs"]
mod windows;

#[cfg(test)]
mod intervals;

/// What mappings keep of the rest of the module, and do not look into.
#[cfg(test)]
mod account {
    use std::cell::Cell;

    #[derive(Default)]
    pub(crate) struct Locked {
        /// How often it was.
        pub(crate) settled: Cell<usize>,
    }

    impl Locked {
        pub(crate) fn settle(&self) {
            self.settled.set(self.settled.get() + 1);
        }
    }
}

#[cfg(test)]
mod claim {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Ticket(pub(crate) u64);
}

#[cfg(test)]
mod domain {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Access(pub(crate) u8);
}

#[cfg(test)]
mod pin {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct UserAddr(pub(crate) u64);

    impl UserAddr {
        pub(crate) fn after(self, pages: u64) -> Self {
            Self(self.0.wrapping_add(pages.wrapping_mul(4096)))
        }
    }
}
