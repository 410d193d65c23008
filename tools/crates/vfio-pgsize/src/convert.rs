// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A conversion: pages of a guest become shared or private, in the right order.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::container::Container;
use crate::error::Error;
use crate::range::IovaRange;
use crate::state::Change;
use crate::state::State;

/// What a VMM does in a conversion besides `SET_STATE`: a trait for [`convert`].
///
/// Guest physical addresses are IO virtual addresses here.
pub trait HostMemory {
    /// Sets KVM's attribute of the pages: `KVM_SET_MEMORY_ATTRIBUTES`, with
    /// `KVM_MEMORY_ATTRIBUTE_PRIVATE` or without. If it fails it changes nothing, as in KVM.
    fn set_attribute(&mut self, range: IovaRange, state: State) -> io::Result<()>;

    /// Frees the shared pages of a range that has become private, if private memory has its own
    /// backing (guest_memfd): `fallocate(FALLOC_FL_PUNCH_HOLE)` or `madvise(MADV_DONTNEED)`.
    fn discard_shared(&mut self, range: IovaRange) -> io::Result<()>;
}

/// A step of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `SET_STATE` in the container of this number.
    SetState(usize),
    /// KVM's attribute.
    Attribute,
    /// Freeing the shared pages.
    Discard,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::SetState(index) => write!(f, "container {index} does not change its pages"),
            Step::Attribute => f.write_str("KVM does not change its attributes"),
            Step::Discard => f.write_str("the shared pages are not freed"),
        }
    }
}

/// A conversion failed, in a safe state: no device reaches a page that is private to KVM.
#[derive(Debug, Error)]
#[error("{range} do not become {state}: {step}: {source}{}", rest(*step, *is_restored))]
pub struct ConvertError {
    /// The pages.
    pub range: IovaRange,
    /// What they were to become.
    pub state: State,
    /// The step that failed.
    pub step: Step,
    /// Whether everything is again as it was before the conversion.
    pub is_restored: bool,
    /// The cause: of the crate's [`Error`](crate::Error), or of the VMM's [`HostMemory`].
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a message says of the rest.
fn rest(step: Step, is_restored: bool) -> &'static str {
    match (step, is_restored) {
        (_, true) => "",
        (Step::Discard, _) => "; they are private all the same: free them later",
        _ => "; what was done before stays, which is safe: convert the pages again",
    }
}

impl ConvertError {
    /// What the VMM answers to the guest, in `run->hypercall.ret` of `KVM_HC_MAP_GPA_RANGE`.
    ///
    /// This is `EINVAL`, positive: KVM ends `KVM_RUN` of an SNP guest for any value that it does not
    /// know. If only freeing the shared pages failed, the conversion is complete, and this is 0.
    pub fn hypercall_ret(&self) -> u64 {
        match self.step {
            Step::Discard => 0,
            _ => libc::EINVAL as u64,
        }
    }
}

/// Makes pages of guest memory shared or private, for KVM and in all containers that have the memory
/// mapped as stateful.
///
/// The IOMMU may reach a page only while the page belongs to the host, and the host may give a page
/// away only after the IOMMU no longer reaches it. So, to share:
///
/// 1. KVM's attribute;
/// 2. `SET_STATE` in each container, which pins the pages and faults them in.
///
/// To make private:
///
/// 1. `SET_STATE` in each container: when it returns, no device reaches the pages;
/// 2. KVM's attribute;
/// 3. free the shared pages.
///
/// Then resume the guest, with 0 or [`ConvertError::hypercall_ret`] as the answer.
///
/// All containers must have the same states in the range, and the range lies in one stateful mapping
/// of each; divide it as KVM's memory slots are divided. A VMM with no devices passes no containers.
///
/// # Errors
///
/// The pages are safe at each instant, whatever fails: none is private to KVM while a device reaches
/// it. If `SET_STATE` fails in a container, that container still has the old states. The function
/// reads them there and restores them in the other containers and in KVM. If restoring fails, too,
/// or if KVM refuses its attribute, the rest stays as it is, and `is_restored` is false: after a
/// failure to share, some devices may not reach pages that are shared to KVM; after a failure to make
/// private, no device reaches them. Convert again, in either direction.
///
/// ```
/// use std::io;
///
/// use vfio_pgsize::convert;
/// use vfio_pgsize::Container;
/// use vfio_pgsize::HostMemory;
/// use vfio_pgsize::IovaRange;
/// use vfio_pgsize::State;
///
/// struct Memory; // the VM's descriptor, and the memory's
///
/// impl HostMemory for Memory {
///     fn set_attribute(&mut self, range: IovaRange, state: State) -> io::Result<()> {
/// #       let _ = (range, state);
///         // KVM_SET_MEMORY_ATTRIBUTES
///         Ok(())
///     }
///
///     fn discard_shared(&mut self, range: IovaRange) -> io::Result<()> {
/// #       let _ = range;
///         // fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
///         Ok(())
///     }
/// }
///
/// # let container = vfio_pgsize::double::Double::pgsize();
/// # let memory = core::ptr::without_provenance_mut(0x7f00_0000_0000);
/// # // SAFETY: the double does not access memory.
/// # unsafe { container.map_stateful(IovaRange::new(0, 4 << 20), memory, State::Private)? };
/// // The exit for KVM_HC_MAP_GPA_RANGE.
/// let range = IovaRange::new(0, 2 << 20);
/// let ret = match convert([&container], &mut Memory, range, State::Shared) {
///     Ok(()) => 0,
///     Err(error) => {
///         eprintln!("{error}");
///         error.hypercall_ret()
///     }
/// };
/// assert_eq!(ret, 0);
/// assert_eq!(container.stats()?.shared, 2 << 20);
/// # Ok::<(), vfio_pgsize::Error>(())
/// ```
pub fn convert<'a, C: Container + ?Sized + 'a>(
    containers: impl IntoIterator<Item = &'a C>,
    memory: &mut impl HostMemory,
    range: IovaRange,
    state: State,
) -> Result<(), ConvertError> {
    let containers: Vec<&C> = containers.into_iter().collect();
    let failed = |step, is_restored, source| ConvertError {
        range,
        state,
        step,
        is_restored,
        source,
    };
    if state == State::Shared {
        memory
            .set_attribute(range, state)
            .map_err(|error| failed(Step::Attribute, true, error.into()))?;
    }
    for (index, container) in containers.iter().enumerate() {
        let Err(error) = container.set_state(&[Change::new(range, state)]) else {
            continue;
        };
        let is_restored = restore(&containers[..index], container, memory, range, state).is_ok();
        let source = error.source.into();
        return Err(failed(Step::SetState(index), is_restored, source));
    }
    if state == State::Private {
        memory
            .set_attribute(range, state)
            .map_err(|error| failed(Step::Attribute, containers.is_empty(), error.into()))?;
        memory
            .discard_shared(range)
            .map_err(|error| failed(Step::Discard, false, error.into()))?;
    }
    Ok(())
}

/// Something could not be restored.
struct NotRestored;

impl From<Error> for NotRestored {
    fn from(_: Error) -> Self {
        NotRestored
    }
}

/// Restores the old states of pages that were to become `state`, in the containers that made the
/// change and, if it was changed, in KVM. `witness` did not make it.
fn restore<C: Container + ?Sized>(
    changed: &[&C],
    witness: &C,
    memory: &mut impl HostMemory,
    range: IovaRange,
    state: State,
) -> Result<(), NotRestored> {
    if changed.is_empty() && state == State::Private {
        return Ok(());
    }
    let old = parts_not(witness, range, state)?;
    let changes: Vec<_> = old.iter().map(|part| Change::new(*part, !state)).collect();
    for container in changed.iter().rev() {
        container.set_state(&changes).map_err(|_| NotRestored)?;
    }
    // Only when no device reaches them can pages be private to KVM.
    if state == State::Shared {
        for part in old {
            memory
                .set_attribute(part, !state)
                .map_err(|_| NotRestored)?;
        }
    }
    Ok(())
}

/// The parts of the range whose pages are not `state`. The container has all of it mapped as stateful.
fn parts_not(
    container: &(impl Container + ?Sized),
    range: IovaRange,
    state: State,
) -> Result<Vec<IovaRange>, NotRestored> {
    let mut parts: Vec<IovaRange> = Vec::new();
    let mut next = Some(range.iova);
    let last = range.last().ok_or(NotRestored)?;
    for run in container.leaves(range).with_private() {
        let run = run?;
        // Leaves that cross an end are reported whole.
        let start = run.range().iova.max(range.iova);
        let run_last = run.range().last().unwrap_or(u64::MAX).min(last);
        if next != Some(start) {
            return Err(NotRestored);
        }
        next = run_last.checked_add(1);
        if run.is_private() == (state == State::Private) {
            continue;
        }
        let part = IovaRange::new(start, run_last - start + 1);
        match parts.last_mut() {
            Some(before) if before.iova + before.size == start => before.size += part.size,
            _ => parts.push(part),
        }
    }
    if next != last.checked_add(1) {
        return Err(NotRestored);
    }
    Ok(parts)
}
