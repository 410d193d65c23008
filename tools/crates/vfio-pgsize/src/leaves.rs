// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The leaves of a range, as the page table has them.

use std::fmt;
use std::io;

use crate::bindings::vfio_pgsize_query;
use crate::bindings::vfio_pgsize_run;
use crate::bindings::VFIO_PGSIZE_QUERY_MISMATCH;
use crate::bindings::VFIO_PGSIZE_QUERY_RMP;
use crate::bindings::VFIO_PGSIZE_QUERY_STATE;
use crate::bindings::VFIO_PGSIZE_RUN_ASSIGNED;
use crate::bindings::VFIO_PGSIZE_RUN_PRIVATE;
use crate::bindings::VFIO_PGSIZE_RUN_READ;
use crate::bindings::VFIO_PGSIZE_RUN_RMP_2M;
use crate::bindings::VFIO_PGSIZE_RUN_RMP_4K;
use crate::bindings::VFIO_PGSIZE_RUN_WRITE;
use crate::calls::Call;
use crate::calls::Calls;
use crate::error::explain;
use crate::error::Error;
use crate::range::IovaRange;

/// A run of adjacent like leaves, or of private pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run(vfio_pgsize_run);

impl Run {
    /// The addresses that the run covers. Leaves that cross an end of the queried range are whole.
    pub const fn range(&self) -> IovaRange {
        IovaRange::new(self.0.iova, self.0.size)
    }

    /// The size of each leaf, in bytes; `None` for private pages, which have no leaves.
    pub fn page_size(&self) -> Option<u64> {
        Some(self.0.pgsize).filter(|size| *size != 0)
    }

    /// How many leaves there are.
    pub fn count(&self) -> u64 {
        self.0.size.checked_div(self.0.pgsize).unwrap_or(0)
    }

    /// Whether devices may read, if the pages are shared.
    pub const fn is_readable(&self) -> bool {
        self.0.flags & VFIO_PGSIZE_RUN_READ != 0
    }

    /// Whether devices may write, if the pages are shared.
    pub const fn is_writable(&self) -> bool {
        self.0.flags & VFIO_PGSIZE_RUN_WRITE != 0
    }

    /// Whether these are private pages: only with [`Leaves::with_private`].
    pub const fn is_private(&self) -> bool {
        self.0.flags & VFIO_PGSIZE_RUN_PRIVATE != 0
    }

    /// Whether an RMP entry under each leaf is 4K: only with [`Leaves::with_rmp`].
    pub const fn has_rmp_4k(&self) -> bool {
        self.0.flags & VFIO_PGSIZE_RUN_RMP_4K != 0
    }

    /// Whether an RMP entry under each leaf is 2M: only with [`Leaves::with_rmp`].
    pub const fn has_rmp_2m(&self) -> bool {
        self.0.flags & VFIO_PGSIZE_RUN_RMP_2M != 0
    }

    /// Whether a frame under each leaf is assigned to a guest: only with [`Leaves::with_rmp`].
    pub const fn is_assigned(&self) -> bool {
        self.0.flags & VFIO_PGSIZE_RUN_ASSIGNED != 0
    }
}

impl fmt::Display for Run {
    /// Address, size and page size in hexadecimal, access, and the number of leaves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vfio_pgsize_run {
            iova, size, pgsize, ..
        } = self.0;
        let read = if self.is_readable() { "r" } else { "" };
        let write = if self.is_writable() { "w" } else { "" };
        let count = self.count();
        write!(
            f,
            "{iova:#x} {size:#x} {pgsize:#x} {read}{write} (leaves: {count})"
        )
    }
}

/// How many runs one call reports at most.
const BATCH: usize = 128;

/// An iterator over the leaves of a range, in runs: [`Container::leaves`].
///
/// It reads the page table of one IOMMU domain in rising order, and omits what is unmapped. Each call
/// to the kernel is atomic against changes of the container; the sequence is not. After an error it
/// ends.
///
/// ```
/// use vfio_pgsize::Change;
/// use vfio_pgsize::Container;
/// use vfio_pgsize::IovaRange;
/// use vfio_pgsize::State;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let container = vfio_pgsize::double::Double::pgsize();
/// # let memory = core::ptr::without_provenance_mut(0x7f00_0000_0000);
/// let all = IovaRange::new(0, 4 << 20);
/// # // SAFETY: the double does not access memory.
/// unsafe { container.map_stateful(all, memory, State::Private)? };
/// container.set_state(&[Change::new(IovaRange::new(0, 2 << 20), State::Shared)])?;
///
/// let runs = container.leaves(all).with_private().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(runs.len(), 2);
/// assert_eq!(runs[0].page_size(), Some(2 << 20));
/// assert!(runs[1].is_private());
/// # Ok(())
/// # }
/// ```
///
/// [`Container::leaves`]: crate::Container::leaves
#[must_use]
pub struct Leaves<'a, C: ?Sized> {
    container: &'a C,
    query: vfio_pgsize_query,
    runs: Vec<vfio_pgsize_run>,
    at: usize,
    is_done: bool,
}

impl<'a, C: Calls + ?Sized> Leaves<'a, C> {
    pub(crate) fn new(container: &'a C, range: IovaRange) -> Self {
        Leaves {
            container,
            query: vfio_pgsize_query {
                iova: range.iova,
                size: range.size,
                ..Default::default()
            },
            runs: Vec::new(),
            at: 0,
            is_done: false,
        }
    }

    /// Read the domain of this number, below [`Container::domains`]. The default is 0; all have the
    /// same mappings, and leaf sizes that differ only if their IOMMUs do.
    ///
    /// [`Container::domains`]: crate::Container::domains
    pub fn domain(mut self, number: u32) -> Self {
        self.query.domain = number;
        self
    }

    /// Report private pages, too.
    pub fn with_private(mut self) -> Self {
        self.query.flags |= VFIO_PGSIZE_QUERY_STATE;
        self
    }

    /// Report the RMP entries under the leaves, too. The host is an SNP host, and SNP is on.
    pub fn with_rmp(mut self) -> Self {
        self.query.flags |= VFIO_PGSIZE_QUERY_RMP;
        self
    }

    /// Report only leaves that disagree with the RMP, through which DMA fails.
    pub fn mismatches(mut self) -> Self {
        self.query.flags |= VFIO_PGSIZE_QUERY_MISMATCH;
        self
    }

    /// Read the next runs.
    fn read(&mut self) -> Result<(), Error> {
        let before = self.query.size;

        self.runs.resize(BATCH, vfio_pgsize_run::default());
        self.at = 0;
        self.container
            .raw_query(&mut self.query, &mut self.runs)
            .map_err(|error| self.explain(error))?;
        self.runs.truncate(self.query.nr as usize);
        if self.query.size >= before {
            return Err(Error::PageTable(Call::Query));
        }
        Ok(())
    }

    fn explain(&self, error: io::Error) -> Error {
        let of_the_rmp = VFIO_PGSIZE_QUERY_MISMATCH | VFIO_PGSIZE_QUERY_RMP;
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) if self.query.flags & of_the_rmp != 0 => Error::NoRmp,
            _ => {
                let range = IovaRange::new(self.query.iova, self.query.size);
                explain(self.container, Call::Query, Some(range), error)
            }
        }
    }
}

impl<C: Calls + ?Sized> Iterator for Leaves<'_, C> {
    type Item = Result<Run, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // The first call is also made for an empty range: the kernel refuses it.
        while self.at == self.runs.len() {
            if self.is_done {
                return None;
            }
            let result = self.read();
            self.is_done = result.is_err() || self.query.size == 0;
            if let Err(error) = result {
                self.runs.clear();
                return Some(Err(error));
            }
        }
        self.at += 1;
        Some(Ok(Run(self.runs[self.at - 1])))
    }
}
