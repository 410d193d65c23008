// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A container without a kernel, for tests of a VMM.
//!
//! [`Double`] has the calls of [`Container`](crate::Container). It keeps mappings, states and policies,
//! and computes the leaves that the module would make of memory that is contiguous wherever its
//! addresses are. It is on a host with one AMD IOMMU and without SNP. It never accesses memory, and
//! its bounds are those of the module, except that memory is never short: [`Double::fail`] makes
//! calls fail.
//!
//! ```
//! use vfio_pgsize::double::Double;
//! use vfio_pgsize::Call;
//! use vfio_pgsize::Change;
//! use vfio_pgsize::Container;
//! use vfio_pgsize::Error;
//! use vfio_pgsize::IovaRange;
//! use vfio_pgsize::State;
//!
//! let container = Double::pgsize();
//! let memory = core::ptr::without_provenance_mut(0x7f00_0000_0000);
//! // SAFETY: the double does not access memory.
//! unsafe { container.map_stateful(IovaRange::new(0, 2 << 20), memory, State::Private)? };
//!
//! container.fail(Call::SetState, 0, 12 /* ENOMEM */);
//! let change = Change::new(IovaRange::new(0, 4096), State::Shared);
//! let error = container.set_state(&[change]).unwrap_err();
//! assert!(matches!(error.source, Error::NoMemory(_)));
//! assert!(!container.is_reached(0));
//! # Ok::<(), Error>(())
//! ```

mod model;
mod policies;
mod space;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::bindings::vfio_pgsize_policy;
use crate::bindings::vfio_pgsize_query;
use crate::bindings::vfio_pgsize_run;
use crate::bindings::vfio_pgsize_stats;
use crate::bindings::VFIO_PGSIZE_IOMMU;
use crate::bindings::VFIO_PGSIZE_VERSION;
use crate::calls::Call;
use crate::calls::Calls;
use crate::calls::INFO_WORDS;
use crate::range::IovaRange;
use crate::state::Change;
use model::Model;

/// The leaf sizes of AMD's format: every power of two from 4K to 2^51, except 512G.
pub(crate) const SUPPORTED: u64 = ((1 << 52) - 4096) & !(1 << 39);

/// What serves the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel has no vfio_pgsize.
    NoModule,
    /// No group has joined yet.
    NoIommu,
    /// `vfio_iommu_type1`.
    OtherBackend,
    /// vfio_pgsize, as `VFIO_TYPE1v2_IOMMU`.
    Type1v2,
    /// vfio_pgsize, as `VFIO_PGSIZE_IOMMU`.
    Pgsize,
}

/// A container without a kernel.
#[derive(Debug)]
pub struct Double {
    kind: Kind,
    model: Mutex<Model>,
    failures: Mutex<HashMap<Call, VecDeque<(usize, i32)>>>,
}

impl Double {
    fn new(kind: Kind) -> Self {
        Double {
            kind,
            model: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// A container of [`IOMMU_TYPE`](crate::IOMMU_TYPE).
    pub fn pgsize() -> Self {
        Double::new(Kind::Pgsize)
    }

    /// A container of `VFIO_TYPE1v2_IOMMU` that vfio_pgsize serves.
    pub fn type1v2() -> Self {
        Double::new(Kind::Type1v2)
    }

    /// A container that another backend serves.
    pub fn other_backend() -> Self {
        Double::new(Kind::OtherBackend)
    }

    /// A container without an IOMMU.
    pub fn without_iommu() -> Self {
        Double::new(Kind::NoIommu)
    }

    /// A container without an IOMMU, on a kernel without vfio_pgsize.
    pub fn without_module() -> Self {
        Double::new(Kind::NoModule)
    }

    /// Lets the next call of this kind fail with `errno`; each further time the one after that. A
    /// `SetState` makes `done` changes before, if it has more than that.
    pub fn fail(&self, call: Call, done: usize, errno: i32) {
        locked(&self.failures)
            .entry(call)
            .or_default()
            .push_back((done, errno));
    }

    /// Whether devices reach the page at this address.
    pub fn is_reached(&self, iova: u64) -> bool {
        locked(&self.model).space.is_reached(iova)
    }

    /// A leaf could not follow the RMP: counts a fallback and its repair, and signals the eventfd.
    pub fn fall_back(&self) {
        locked(&self.model).fall_back();
    }

    /// How the next call of this kind fails.
    fn failure(&self, call: Call) -> Option<(usize, i32)> {
        locked(&self.failures).get_mut(&call)?.pop_front()
    }

    /// The model, for a call that vfio_pgsize serves.
    fn served(&self, call: Call) -> io::Result<MutexGuard<'_, Model>> {
        match self.kind {
            Kind::NoModule | Kind::NoIommu => Err(errno(libc::EINVAL)),
            Kind::OtherBackend => Err(errno(libc::ENOTTY)),
            Kind::Type1v2 | Kind::Pgsize => match self.failure(call) {
                Some((_, number)) => Err(errno(number)),
                None => Ok(locked(&self.model)),
            },
        }
    }
}

/// A test that panicked leaves a model that others can read.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// The kernel's checks of a range.
fn check(range: IovaRange) -> io::Result<u64> {
    if !range.is_aligned() {
        return Err(errno(libc::EINVAL));
    }
    range.last().ok_or(errno(libc::EOVERFLOW))
}

impl Calls for Double {
    fn raw_check_extension(&self, extension: u32) -> io::Result<u32> {
        let has_it = !matches!(self.kind, Kind::NoModule | Kind::OtherBackend);
        Ok(if extension == VFIO_PGSIZE_IOMMU && has_it {
            VFIO_PGSIZE_VERSION
        } else {
            0
        })
    }

    fn raw_get_info(&self, buffer: &mut [u64; INFO_WORDS]) -> io::Result<()> {
        match self.kind {
            // Some other answer.
            Kind::OtherBackend => Ok(()),
            _ => {
                self.served(Call::GetInfo)?.info(buffer);
                Ok(())
            }
        }
    }

    unsafe fn raw_map_dma(&self, range: IovaRange, vaddr: u64, flags: u32) -> io::Result<()> {
        let is_pgsize = self.kind == Kind::Pgsize;
        self.served(Call::MapDma)?
            .map(range, vaddr, flags, is_pgsize)
    }

    fn raw_unmap_dma(&self, range: IovaRange) -> io::Result<u64> {
        let is_pgsize = self.kind == Kind::Pgsize;
        self.served(Call::UnmapDma)?.space.unmap(range, is_pgsize)
    }

    fn raw_get_policy(&self, flags: u32, iova: u64) -> io::Result<vfio_pgsize_policy> {
        self.served(Call::GetPolicy)?.policies.get(flags, iova)
    }

    fn raw_set_policy(&self, policy: vfio_pgsize_policy) -> io::Result<()> {
        self.served(Call::SetPolicy)?.set_policy(&policy)
    }

    fn raw_query(
        &self,
        query: &mut vfio_pgsize_query,
        runs: &mut [vfio_pgsize_run],
    ) -> io::Result<()> {
        self.served(Call::Query)?.space.query(query, runs)
    }

    fn raw_get_stats(&self) -> io::Result<vfio_pgsize_stats> {
        Ok(self.served(Call::GetStats)?.stats())
    }

    fn raw_set_event(&self, fd: RawFd) -> io::Result<()> {
        self.served(Call::SetEvent)?.set_event(fd)
    }

    fn raw_set_state(&self, changes: &[Change]) -> Result<(), (usize, io::Error)> {
        let failure = match self.kind {
            Kind::Pgsize => self.failure(Call::SetState),
            Kind::NoModule | Kind::NoIommu => return Err((0, errno(libc::EINVAL))),
            Kind::OtherBackend | Kind::Type1v2 => return Err((0, errno(libc::ENOTTY))),
        };
        let mut model = locked(&self.model);
        for (done, change) in changes.iter().enumerate() {
            if let Some((_, number)) = failure.filter(|(at, _)| *at == done) {
                return Err((done, errno(number)));
            }
            model.change(*change).map_err(|error| (done, error))?;
        }
        Ok(())
    }
}
