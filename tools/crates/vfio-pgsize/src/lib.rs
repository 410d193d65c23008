// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! IOMMU page sizes and page states of a VFIO container, for VMMs on rust-vmm's crates.
//!
//! The kernel module vfio_pgsize is an IOMMU backend of VFIO, a peer of `vfio_iommu_type1`.
//! A VMM chooses the sizes of the IOMMU's leaves, and which pages of guest memory devices may use.
//! This crate has the module's calls as methods of the trait [`Container`], which each type with a
//! file descriptor has: `VfioContainer` of the crate vfio-ioctls, a `File`, an `Arc` of them.
//!
//! # Terms
//!
//! - A *leaf* is an entry of the IOMMU's page table that translates. Its size is the page size that
//!   the device sees.
//! - A *mapping* is the result of one map call. In a *stateful* mapping devices may use the pages
//!   that are *shared*, and not those that are *private*.
//! - *Following the RMP*: on an SNP host, leaves are split before the RMP entry under them is.
//!
//! All addresses and sizes are in bytes; those of ranges are multiples of 4096.
//!
//! # Policies
//!
//! A container whose type is `VFIO_TYPE1v2_IOMMU`, as vfio-ioctls sets it, has policies if
//! vfio_pgsize is loaded with `serve_type1v2=1`. The smallest change to a VMM is two calls:
//!
//! ```
//! use vfio_pgsize::Container;
//! use vfio_pgsize::IovaRange;
//! use vfio_pgsize::PageSizes;
//! use vfio_pgsize::Policy;
//! use vfio_pgsize::Scope;
//!
//! # fn main() -> Result<(), vfio_pgsize::Error> {
//! # let container = vfio_pgsize::double::Double::type1v2();
//! // After the first device has joined the container, and before memory is mapped.
//! container.require(1)?;
//! container.set_policy(Scope::Container, Policy::new(PageSizes::SIZE_4K | PageSizes::SIZE_2M))?;
//! # let memory = core::ptr::without_provenance_mut(0x7f00_0000_0000);
//! # // SAFETY: the double does not access memory.
//! # unsafe { container.map(IovaRange::new(0, 4 << 20), memory)? };
//!
//! // Later, while devices do DMA: 4K leaves for a range, and what the page table has now.
//! let range = IovaRange::new(0, 2 << 20);
//! container.apply_policy(Scope::Range(range), Policy::new(PageSizes::SIZE_4K))?;
//! for run in container.leaves(range) {
//!     assert_eq!(run?.page_size(), Some(4096));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Page states
//!
//! They need a container of the type [`IOMMU_TYPE`]. vfio-ioctls 0.10 knows only
//! `VFIO_TYPE1v2_IOMMU`; a patch beside this crate, for which see its README, lets the VMM choose.
//! Then [`Container::map_stateful`] maps guest memory, and [`convert`] handles each request of the
//! guest in the right order.
//!
//! # Devices of vfio-ioctls
//!
//! With the feature `vfio-ioctls`, which is on by default, `PgsizeOps` is a `VfioOps` on which
//! `VfioDevice` runs: what maps memory through `VfioOps` makes stateful mappings.
//!
//! # Tests of a VMM
//!
//! With the feature `double` there is `double::Double`, a container without a kernel: it has the
//! trait [`Container`], computes leaves and states, and can fail any call.
//!
//! # Errors
//!
//! Each [`Error`] says what is wrong and, where there is one, the remedy. On a kernel without the
//! module [`Container::require`] returns [`Error::NotLoaded`]:
//!
//! ```
//! use vfio_pgsize::Container;
//! use vfio_pgsize::Error;
//!
//! let container = vfio_pgsize::double::Double::without_module();
//! let error = container.require(1).unwrap_err();
//! assert!(matches!(error, Error::NotLoaded));
//! assert!(error.to_string().contains("modprobe vfio_pgsize"));
//! ```

#[allow(missing_docs, non_camel_case_types)]
#[rustfmt::skip]
pub mod bindings;
mod calls;
mod container;
mod convert;
#[cfg(feature = "double")]
pub mod double;
mod error;
mod info;
mod leaves;
#[cfg(feature = "vfio-ioctls")]
mod ops;
mod policy;
mod range;
mod sizes;
mod state;
mod stats;

pub use calls::Call;
pub use calls::Calls;
pub use container::Container;
pub use convert::convert;
pub use convert::ConvertError;
pub use convert::HostMemory;
pub use convert::Step;
pub use error::Error;
pub use info::Info;
pub use leaves::Leaves;
pub use leaves::Run;
#[cfg(feature = "vfio-ioctls")]
pub use ops::PgsizeOps;
pub use policy::Follow;
pub use policy::Policies;
pub use policy::Policy;
pub use policy::PolicyPart;
pub use policy::Scope;
pub use range::IovaRange;
pub use sizes::PageSizes;
pub use sizes::ParseSizesError;
pub use state::Change;
pub use state::SetStateError;
pub use state::State;
pub use stats::Stats;

/// The type of a container with page states and partial unmap: an argument of `VFIO_SET_IOMMU` and
/// of `VFIO_CHECK_EXTENSION`.
pub const IOMMU_TYPE: u32 = bindings::VFIO_PGSIZE_IOMMU;

/// The version of the interface that this crate knows. Later modules have all of it.
pub const VERSION: u32 = bindings::VFIO_PGSIZE_VERSION;
