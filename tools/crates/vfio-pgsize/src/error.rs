// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Errors, each with its remedy, and what an errno means for which call.

use std::io;

use thiserror::Error;

use crate::bindings::VFIO_PGSIZE_IOMMU;
use crate::calls::Call;
use crate::calls::Calls;
use crate::calls::INFO_WORDS;
use crate::range::IovaRange;
use crate::sizes::PageSizes;

/// Why a call failed, and what to do.
///
/// Unless a method says otherwise, a call that fails changes nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no vfio_pgsize.
    #[error("no backend of VFIO has page-size policies: load the module vfio_pgsize, by 'modprobe vfio_pgsize' as root")]
    NotLoaded,
    /// Another backend serves the container.
    #[error("another backend serves the container: set its type to VFIO_PGSIZE_IOMMU; or load vfio_pgsize with serve_type1v2=1, after vfio_iommu_type1, before the container is made")]
    OtherBackend,
    /// The module is older than the VMM requires.
    #[error("vfio_pgsize has version {found} of its interface, and {wanted} is needed: install a newer module")]
    TooOld {
        /// What the module has.
        found: u32,
        /// What the VMM requires.
        wanted: u32,
    },
    /// The descriptor is of another file.
    #[error("the descriptor is no VFIO container: open /dev/vfio/vfio; if it is not there, run 'modprobe vfio' as root")]
    NotAContainer,
    /// The container has no group, or no type yet.
    #[error("{0}: the container has no IOMMU: add a device's group, and set the container's type, first")]
    NoIommu(Call),
    /// The container is not of `VFIO_PGSIZE_IOMMU`.
    #[error("the container has no page states: set its type to VFIO_PGSIZE_IOMMU; vfio-ioctls 0.10 needs the patch beside this crate for that")]
    NoPageStates,
    /// A range is not of whole pages, or empty.
    #[error("{0}: {1}: addresses and sizes must be multiples of 4096, and sizes not 0")]
    Misaligned(Call, IovaRange),
    /// A range goes beyond 2^64.
    #[error("{0}: a range goes beyond 2^64: shorten it")]
    BeyondEnd(Call),
    /// A policy lacks 4K.
    #[error("the set of page sizes {0} lacks 4K, which each policy must have: add it")]
    Lacks4K(PageSizes),
    /// An IOMMU lacks sizes of a policy.
    #[error("the IOMMU has no leaves of {missing}; it has {supported}: leave those out")]
    UnsupportedSizes {
        /// Those that it lacks.
        missing: PageSizes,
        /// Those that it has.
        supported: PageSizes,
    },
    /// Leaves cannot follow the RMP on this host.
    #[error("leaves cannot follow the RMP here: that needs an SNP host with SNP on, IOMMU page tables of AMD's host format, and a kernel whose RMP functions can be probed: use a policy of 4K instead")]
    CannotFollow,
    /// There is no RMP to read, or the page table cannot be read.
    #[error("RMP entries and mismatches cannot be queried here: that needs an SNP host with SNP on, and IOMMU page tables of AMD's host format: query without them")]
    NoRmp,
    /// The module cannot edit, or read, the page table of an IOMMU.
    #[error("{0}: the page table of an IOMMU in the container is not of AMD's host format: policies apply only to what is mapped later, and there are no queries and no page states")]
    PageTableFormat(Call),
    /// Too many ranges have their own policy.
    #[error("{nr_ranges} ranges have their own policy, the most that is possible: let some inherit the container's again")]
    TooManyRanges {
        /// How many have one.
        nr_ranges: u32,
    },
    /// Too many mappings.
    #[error("{0}: the container has as many mappings as it may: make fewer and larger ones, as stateful mappings are, or raise the module's parameter dma_entry_limit")]
    TooManyMappings(Call),
    /// Too many mappings of one page would follow the RMP.
    #[error("{0}: more than 1024 mappings of one page of memory would follow the RMP: map it less often, or let fewer ranges follow")]
    TooManyAliases(Call),
    /// A part of the range is mapped.
    #[error("{0}: a part of it is mapped: unmap it first")]
    Mapped(IovaRange),
    /// The addresses cannot be mapped.
    #[error("{0} cannot be mapped: it is in none of the container's IOVA ranges, or the memory's address is no multiple of 4096")]
    NotMappable(IovaRange),
    /// A mapping lies only partly in the range.
    #[error("{0}: a mapping lies only partly in it: unmap it whole, or set the container's type to VFIO_PGSIZE_IOMMU")]
    DividesMapping(IovaRange),
    /// No memory, or more than may be locked.
    #[error("{call}: no memory, or RLIMIT_MEMLOCK is too low for the memory that devices use: raise the limit (LimitMEMLOCK= of a systemd unit){}", still_shared(.0), call = .0)]
    NoMemory(Call),
    /// The memory does not exist.
    #[error("{0}: there is no memory at the address, it is read-only, or it is device registers: see that what backs the guest's memory has the whole range")]
    BadMemory(Call),
    /// The range is not in one stateful mapping.
    #[error("a change is not within one stateful mapping: divide it where the VMM's mappings end; if nothing is mapped there, devices need no change")]
    NotStateful,
    /// Another process mapped the memory.
    #[error("only the process that mapped memory can share pages of it: make the call there")]
    OtherProcess,
    /// Something is in the way for now.
    #[error("{0}: the memory has no address now (live update), or an emulated device does not unpin it: try again later")]
    Busy(Call),
    /// The descriptor is no eventfd.
    #[error("the descriptor is not that of an eventfd: make it by eventfd(2), and keep it open until this call returns")]
    NotAnEventFd,
    /// A fatal signal arrived.
    #[error("{0}: the process is being killed")]
    Interrupted(Call),
    /// The module found what it did not expect.
    #[error("{0}: unexpected page-table contents, a bug of vfio_pgsize: report it with what the kernel log says")]
    PageTable(Call),
    /// The kernel refused an argument, or reported what the interface does not have.
    #[error("{call}: {source}: the VMM, or the crate vfio-pgsize, has a bug")]
    Refused {
        /// The call.
        call: Call,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// The errno that stands for this error.
    pub fn errno(&self) -> i32 {
        match self {
            Error::NotLoaded => libc::ENODEV,
            Error::OtherBackend | Error::NotAContainer | Error::NoPageStates => libc::ENOTTY,
            Error::CannotFollow | Error::NoRmp | Error::PageTableFormat(_) => libc::EOPNOTSUPP,
            Error::NoIommu(_)
            | Error::Misaligned(..)
            | Error::Lacks4K(_)
            | Error::UnsupportedSizes { .. }
            | Error::NotMappable(_)
            | Error::DividesMapping(_)
            | Error::NotAnEventFd => libc::EINVAL,
            Error::TooOld { .. } => libc::EPROTO,
            Error::BeyondEnd(_) => libc::EOVERFLOW,
            Error::TooManyRanges { .. } | Error::TooManyMappings(_) => libc::ENOSPC,
            Error::TooManyAliases(_) => libc::EMLINK,
            Error::Mapped(_) => libc::EEXIST,
            Error::NoMemory(_) => libc::ENOMEM,
            Error::BadMemory(_) => libc::EFAULT,
            Error::NotStateful => libc::ENOENT,
            Error::OtherProcess => libc::EPERM,
            Error::Busy(_) => libc::EBUSY,
            Error::Interrupted(_) => libc::EINTR,
            Error::PageTable(_) => libc::EIO,
            Error::Refused { source, .. } => source.raw_os_error().unwrap_or(libc::EINVAL),
        }
    }
}

/// What a VMM must know when SET_STATE has no memory.
fn still_shared(call: &Call) -> &'static str {
    match call {
        Call::SetState => {
            ". Pages that were to become private are still shared: do not give them to the guest"
        }
        _ => "",
    }
}

/// Whether the container has an IOMMU: VFIO itself refuses GET_INFO before that.
pub(crate) fn has_iommu(container: &(impl Calls + ?Sized)) -> bool {
    container.raw_get_info(&mut [0; INFO_WORDS]).is_ok()
}

/// Why vfio_pgsize does not serve the container, if it does not.
pub(crate) fn not_served(container: &(impl Calls + ?Sized)) -> Option<Error> {
    match container.raw_check_extension(VFIO_PGSIZE_IOMMU) {
        Err(_) => Some(Error::NotAContainer),
        Ok(0) if has_iommu(container) => Some(Error::OtherBackend),
        Ok(0) => Some(Error::NotLoaded),
        Ok(_) => None,
    }
}

/// The meaning of an error that is the same for all calls that can have it.
pub(crate) fn explain(
    container: &(impl Calls + ?Sized),
    call: Call,
    range: Option<IovaRange>,
    error: io::Error,
) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOTTY) => not_served(container).unwrap_or(Error::NoPageStates),
        Some(libc::EINVAL) => match range {
            Some(range) if !range.is_aligned() => Error::Misaligned(call, range),
            _ if !has_iommu(container) => not_served(container).unwrap_or(Error::NoIommu(call)),
            _ => match (call, range) {
                (Call::MapDma, Some(range)) => Error::NotMappable(range),
                (Call::UnmapDma, Some(range)) => Error::DividesMapping(range),
                _ => Error::Refused {
                    call,
                    source: error,
                },
            },
        },
        Some(libc::EOVERFLOW) => Error::BeyondEnd(call),
        Some(libc::EOPNOTSUPP) => Error::PageTableFormat(call),
        Some(libc::ENOSPC) => Error::TooManyMappings(call),
        Some(libc::EMLINK) => Error::TooManyAliases(call),
        Some(libc::ENOMEM) => Error::NoMemory(call),
        Some(libc::EFAULT) => Error::BadMemory(call),
        Some(libc::EBUSY) => Error::Busy(call),
        Some(libc::EINTR) => Error::Interrupted(call),
        Some(libc::EIO) => Error::PageTable(call),
        _ => Error::Refused {
            call,
            source: error,
        },
    }
}
