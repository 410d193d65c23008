// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The module's calls on a container.

use std::os::fd::AsRawFd;

use vfio_bindings::bindings::vfio::VFIO_DMA_MAP_FLAG_READ;
use vfio_bindings::bindings::vfio::VFIO_DMA_MAP_FLAG_WRITE;

use crate::bindings::vfio_pgsize_query;
use crate::bindings::vfio_pgsize_run;
use crate::bindings::VFIO_PGSIZE_IOMMU;
use crate::bindings::VFIO_PGSIZE_MAP_SHARED;
use crate::bindings::VFIO_PGSIZE_MAP_STATEFUL;
use crate::bindings::VFIO_PGSIZE_POLICY_APPLY;
use crate::bindings::VFIO_PGSIZE_POLICY_INHERIT;
use crate::bindings::VFIO_PGSIZE_POLICY_TRACKING;
use crate::calls::Call;
use crate::calls::Calls;
use crate::calls::INFO_WORDS;
use crate::error::explain;
use crate::error::not_served;
use crate::error::Error;
use crate::info::Info;
use crate::leaves::Leaves;
use crate::policy::policy_at;
use crate::policy::set_policy;
use crate::policy::Policies;
use crate::policy::Policy;
use crate::policy::PolicyPart;
use crate::policy::Scope;
use crate::policy::NO_POLICY;
use crate::range::IovaRange;
use crate::range::PAGE;
use crate::sizes::PageSizes;
use crate::state::Change;
use crate::state::SetStateError;
use crate::state::State;
use crate::stats::Stats;

/// The calls of vfio_pgsize on a VFIO container.
///
/// Each type with a file descriptor has them: `VfioContainer` of the crate vfio-ioctls, a `File` of
/// `/dev/vfio/vfio`, a `RawFd`, an `Arc` of those.
///
/// A container has a policy, and mappings, from the moment it has an IOMMU until its last group
/// leaves. With vfio-ioctls this begins when the first `VfioDevice` is made.
pub trait Container: Calls {
    /// The version of the module's interface; 0 if vfio_pgsize is not loaded, or if another backend
    /// serves the container.
    ///
    /// # Errors
    ///
    /// [`Error::NotAContainer`].
    fn version(&self) -> Result<u32, Error> {
        self.raw_check_extension(VFIO_PGSIZE_IOMMU)
            .map_err(|_| Error::NotAContainer)
    }

    /// Checks that the module is there and has this version of the interface, or a later one.
    ///
    /// Before the container has an IOMMU: whether vfio_pgsize is loaded. Afterwards: whether it
    /// serves the container. A VMM that sets `VFIO_TYPE1v2_IOMMU` asks afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`], [`Error::OtherBackend`], [`Error::TooOld`], [`Error::NotAContainer`].
    fn require(&self, version: u32) -> Result<u32, Error> {
        if let Some(error) = not_served(self) {
            return Err(error);
        }
        match self.version()? {
            found if found < version => Err(Error::TooOld {
                found,
                wanted: version,
            }),
            found => Ok(found),
        }
    }

    /// What the container supports, and how much of it is used.
    ///
    /// # Errors
    ///
    /// [`Error::NoIommu`]; [`Error::OtherBackend`].
    fn info(&self) -> Result<Info, Error> {
        let mut buffer = [0; INFO_WORDS];
        self.raw_get_info(&mut buffer)
            .map_err(|error| explain(self, Call::GetInfo, None, error))?;
        Info::read(&buffer).ok_or(Error::OtherBackend)
    }

    /// Maps memory for devices to read and write, with the leaves that the policy allows.
    ///
    /// # Safety
    ///
    /// Devices access the memory until it is unmapped or [`unmap`](Self::unmap) succeeds for the
    /// range. Meanwhile it may be accessed only through raw pointers, by volatile or atomic
    /// operations, or by others (a guest, a system call), and no reference to it may exist: the
    /// rules of `VfioContainer::vfio_dma_map`.
    ///
    /// # Errors
    ///
    /// [`Error::Mapped`], [`Error::NotMappable`], [`Error::TooManyMappings`], [`Error::NoMemory`],
    /// [`Error::BadMemory`] and others. Nothing is mapped then.
    unsafe fn map(&self, range: IovaRange, memory: *mut u8) -> Result<(), Error> {
        // SAFETY: the caller vouches for the memory.
        unsafe { map(self, range, memory, 0) }
    }

    /// Maps memory of which devices may use the pages that are shared; see
    /// [`set_state`](Self::set_state). All pages are `state` at first.
    ///
    /// It counts as one mapping, whatever the states. If all is private, nothing is pinned, and
    /// the addresses need not be backed by memory yet.
    ///
    /// # Safety
    ///
    /// As for [`map`](Self::map), for each page while it is shared.
    ///
    /// # Errors
    ///
    /// [`Error::NoPageStates`], if the container is not of [`IOMMU_TYPE`](crate::IOMMU_TYPE);
    /// [`Error::PageTableFormat`]; those of [`map`](Self::map).
    unsafe fn map_stateful(
        &self,
        range: IovaRange,
        memory: *mut u8,
        state: State,
    ) -> Result<(), Error> {
        let flags = match state {
            State::Private => VFIO_PGSIZE_MAP_STATEFUL,
            State::Shared => VFIO_PGSIZE_MAP_STATEFUL | VFIO_PGSIZE_MAP_SHARED,
        };
        // SAFETY: the caller vouches for the memory.
        unsafe { map(self, range, memory, flags) }
    }

    /// Unmaps a range, and returns how many bytes were mapped there. No device reaches the memory
    /// afterwards.
    ///
    /// In a container of [`IOMMU_TYPE`](crate::IOMMU_TYPE) the range can be a part of a mapping; the
    /// rest stays translated at each instant. Otherwise that fails.
    ///
    /// # Errors
    ///
    /// [`Error::DividesMapping`], [`Error::NoMemory`], [`Error::TooManyMappings`], [`Error::Busy`].
    fn unmap(&self, range: IovaRange) -> Result<u64, Error> {
        self.raw_unmap_dma(range)
            .map_err(|error| explain(self, Call::UnmapDma, Some(range), error))
    }

    /// The container's policy.
    ///
    /// # Errors
    ///
    /// [`Error::NoIommu`], [`Error::OtherBackend`].
    fn policy(&self) -> Result<Policy, Error> {
        self.raw_get_policy(0, 0)
            .map(|policy| Policy::from(&policy))
            .map_err(|error| explain(self, Call::GetPolicy, None, error))
    }

    /// The policy at an address, and how far it goes from there.
    ///
    /// # Errors
    ///
    /// [`Error::Misaligned`]; those of [`policy`](Self::policy).
    fn policy_at(&self, iova: u64) -> Result<PolicyPart, Error> {
        policy_at(self, iova)
    }

    /// The policies of the whole address space, in rising order.
    fn policies(&self) -> Policies<'_, Self> {
        Policies::new(self)
    }

    /// Sets a policy for later maps. What is mapped does not change, unless the policy follows the
    /// RMP: leaves that disagree with the RMP are split.
    ///
    /// # Errors
    ///
    /// [`Error::Lacks4K`], [`Error::UnsupportedSizes`], [`Error::TooManyRanges`],
    /// [`Error::CannotFollow`] and others.
    fn set_policy(&self, scope: Scope, policy: Policy) -> Result<(), Error> {
        set_policy(self, scope.range(), policy, 0)
    }

    /// Sets a policy, and converts what is mapped to the leaves that a map under it would make.
    /// The translation of each address is the same at each instant, so DMA may continue.
    ///
    /// # Errors
    ///
    /// Those of [`set_policy`](Self::set_policy), and [`Error::PageTableFormat`]. On
    /// [`Error::NoMemory`], [`Error::Interrupted`] and [`Error::PageTable`] the policy is unchanged,
    /// and each leaf is one of the old or the new policy; it is safe to call again.
    fn apply_policy(&self, scope: Scope, policy: Policy) -> Result<(), Error> {
        set_policy(self, scope.range(), policy, VFIO_PGSIZE_POLICY_APPLY)
    }

    /// Removes a range's own policy: the container's applies there again, to later maps.
    ///
    /// # Errors
    ///
    /// Those of [`set_policy`](Self::set_policy).
    fn inherit_policy(&self, range: IovaRange) -> Result<(), Error> {
        set_policy(self, Some(range), NO_POLICY, VFIO_PGSIZE_POLICY_INHERIT)
    }

    /// The same, and converts what is mapped.
    ///
    /// # Errors
    ///
    /// Those of [`apply_policy`](Self::apply_policy).
    fn apply_inherited_policy(&self, range: IovaRange) -> Result<(), Error> {
        let flags = VFIO_PGSIZE_POLICY_INHERIT | VFIO_PGSIZE_POLICY_APPLY;
        set_policy(self, Some(range), NO_POLICY, flags)
    }

    /// The leaf sizes that are allowed while dirty tracking is on.
    ///
    /// # Errors
    ///
    /// [`Error::NoIommu`], [`Error::OtherBackend`].
    fn tracking_sizes(&self) -> Result<PageSizes, Error> {
        self.raw_get_policy(VFIO_PGSIZE_POLICY_TRACKING, 0)
            .map(|policy| PageSizes::from_bits(policy.pgsizes))
            .map_err(|error| explain(self, Call::GetPolicy, None, error))
    }

    /// Sets the leaf sizes that are allowed, besides 4K, while dirty tracking is on. They take
    /// effect when tracking begins, or, if it is on, for what is mapped from now on.
    ///
    /// # Errors
    ///
    /// Those of [`set_policy`](Self::set_policy).
    fn set_tracking_sizes(&self, sizes: PageSizes) -> Result<(), Error> {
        set_policy(self, None, Policy::new(sizes), VFIO_PGSIZE_POLICY_TRACKING)
    }

    /// The leaves of a range, as the page table has them; see [`Leaves`].
    fn leaves(&self, range: IovaRange) -> Leaves<'_, Self> {
        Leaves::new(self, range)
    }

    /// How many IOMMU domains the container has: usually one.
    ///
    /// # Errors
    ///
    /// Those of [`leaves`](Self::leaves).
    fn domains(&self) -> Result<u32, Error> {
        let range = IovaRange::new(0, PAGE);
        for domain in 0..u32::MAX {
            let mut query = vfio_pgsize_query {
                iova: range.iova,
                size: range.size,
                domain,
                ..Default::default()
            };
            match self.raw_query(&mut query, &mut [vfio_pgsize_run::default()]) {
                Ok(()) => (),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(domain),
                Err(error) => return Err(explain(self, Call::Query, Some(range), error)),
            }
        }
        Ok(u32::MAX)
    }

    /// The counters.
    ///
    /// # Errors
    ///
    /// [`Error::NoIommu`], [`Error::OtherBackend`].
    fn stats(&self) -> Result<Stats, Error> {
        self.raw_get_stats()
            .map(Stats::from)
            .map_err(|error| explain(self, Call::GetStats, None, error))
    }

    /// Lets the module signal an eventfd soon after leaves could not follow the RMP; which of
    /// `fallbacks`, `missed` and `mismatches` grew tells how. It replaces an earlier one.
    ///
    /// The container keeps the eventfd; the descriptor may be closed.
    ///
    /// # Errors
    ///
    /// [`Error::NotAnEventFd`]; [`Error::NoIommu`], [`Error::OtherBackend`].
    fn set_eventfd(&self, event: &impl AsRawFd) -> Result<(), Error> {
        self.raw_set_event(event.as_raw_fd()).map_err(|error| {
            match (error.raw_os_error(), self.stats()) {
                // The argument has nothing else to refuse.
                (Some(libc::EINVAL | libc::EBADF), Ok(_)) => Error::NotAnEventFd,
                _ => explain(self, Call::SetEvent, None, error),
            }
        })
    }

    /// Removes the eventfd.
    ///
    /// # Errors
    ///
    /// [`Error::NoIommu`], [`Error::OtherBackend`].
    fn clear_eventfd(&self) -> Result<(), Error> {
        self.raw_set_event(-1)
            .map_err(|error| explain(self, Call::SetEvent, None, error))
    }

    /// Changes the states of pages of stateful mappings, in order; where changes overlap, the later
    /// one wins. One call for many changes saves much.
    ///
    /// Sharing pins pages, and faults them in if needed. When a change to private returns, no device
    /// reaches the pages, no IOTLB holds them, and they are not pinned. [`convert`](crate::convert)
    /// makes this call at the right time of a conversion.
    ///
    /// # Errors
    ///
    /// The cause, and how many changes are complete. [`Error::NoMemory`], [`Error::NotStateful`],
    /// [`Error::BadMemory`], [`Error::OtherProcess`], [`Error::Busy`], [`Error::NoPageStates`] and
    /// others: what to do is in their messages.
    ///
    /// ```
    /// use vfio_pgsize::Change;
    /// use vfio_pgsize::Container;
    /// use vfio_pgsize::Error;
    /// use vfio_pgsize::IovaRange;
    /// use vfio_pgsize::State;
    ///
    /// # let container = vfio_pgsize::double::Double::pgsize();
    /// # let memory = core::ptr::without_provenance_mut(0x7f00_0000_0000);
    /// # // SAFETY: the double does not access memory.
    /// # unsafe { container.map_stateful(IovaRange::new(0, 4 << 20), memory, State::Private)? };
    /// let error = container
    ///     .set_state(&[
    ///         Change::new(IovaRange::new(0, 4096), State::Shared),
    ///         Change::new(IovaRange::new(1 << 40, 4096), State::Shared),
    ///     ])
    ///     .unwrap_err();
    /// assert_eq!(error.done, 1);
    /// assert!(matches!(error.source, Error::NotStateful));
    /// assert_eq!(container.stats()?.shared, 4096);
    /// # Ok::<(), Error>(())
    /// ```
    fn set_state(&self, changes: &[Change]) -> Result<(), SetStateError> {
        // The kernel refuses an empty list.
        if changes.is_empty() {
            return Ok(());
        }
        self.raw_set_state(changes)
            .map_err(|(done, error)| SetStateError {
                done,
                source: match error.raw_os_error() {
                    Some(libc::ENOENT) => Error::NotStateful,
                    Some(libc::EPERM) => Error::OtherProcess,
                    _ => {
                        let range = changes.get(done).map(|change| change.range());
                        explain(self, Call::SetState, range, error)
                    }
                },
            })
    }
}

impl<T: Calls + ?Sized> Container for T {}

/// # Safety
///
/// See [`Container::map`].
unsafe fn map(
    container: &(impl Calls + ?Sized),
    range: IovaRange,
    memory: *mut u8,
    flags: u32,
) -> Result<(), Error> {
    let flags = flags | VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    // SAFETY: the caller vouches for the memory.
    let Err(error) = (unsafe { container.raw_map_dma(range, memory as u64, flags) }) else {
        return Ok(());
    };
    let is_stateful = flags & VFIO_PGSIZE_MAP_STATEFUL != 0;
    Err(match error.raw_os_error() {
        Some(libc::EEXIST) => Error::Mapped(range),
        Some(libc::EINVAL) if is_stateful && !has_page_states(container) => {
            not_served(container).unwrap_or(Error::NoPageStates)
        }
        _ => explain(container, Call::MapDma, Some(range), error),
    })
}

/// Whether the container is of a type with page states: others have no SET_STATE.
fn has_page_states(container: &(impl Calls + ?Sized)) -> bool {
    let nothing = [Change::new(IovaRange::new(0, 0), State::Private)];
    match container.raw_set_state(&nothing) {
        Err((_, error)) => error.raw_os_error() != Some(libc::ENOTTY),
        Ok(()) => true,
    }
}
