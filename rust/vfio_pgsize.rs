// SPDX-License-Identifier: GPL-2.0

//! A VFIO IOMMU backend that lets the VMM choose the IOMMU's page sizes.
//!
//! # Words
//!
//! - *container*: what a VMM opens as `/dev/vfio/vfio`, and the one address space that all of its
//!   devices see. *group*: the devices that the IOMMU can not tell apart; they join a container.
//! - *domain*: an IOMMU page table, as the kernel's IOMMU core has it. Groups of equal kind share
//!   one; a container has one for each kind.
//! - *IOVA*: the address that a device uses. *frame*: a page of physical memory.
//! - *mapping*: what one `VFIO_IOMMU_MAP_DMA` made: a range of IOVAs, and the memory of a process
//!   behind it. *run*: pages of a mapping that are contiguous in physical memory.
//! - *leaf*: an entry of the page table that translates; its size is the page size that the device
//!   sees. More words on page tables are in [`pgtable`].
//! - *policy*: which leaf sizes are allowed, and whether leaves follow the RMP, for the container and
//!   for ranges of it. *rule*: what it says of one leaf.
//! - *RMP*: an SNP host's reverse map table: to whom a frame belongs. *smash*: to replace an entry of
//!   2M by 512 of 4K. A *block* of 2M is *broken* if its entries are of 4K and one is assigned: a
//!   leaf over it disagrees, and the IOMMU refuses DMA through it.
//! - *segment*: a range of IOVAs with one policy.
//! - *stateful*: of a mapping, that its pages have a state: *shared* ones are pinned and mapped,
//!   *private* ones are not.
//!
//! # Layers
//!
//! A folder is a layer, and so is a file beside them. Each knows the ones below it, and none above:
//!
//! ```text
//! vfio_pgsize.rs   the module, loaded
//! backend          registration with VFIO, and what VFIO calls
//! uapi             bytes of userspace, checked and made requests; the answers
//! debugfs          what an administrator can read of a container
//! container        one VMM's address space: mappings, page states, policies, groups; the worker
//! rmp              leaves that follow the RMP: the hook, the reverse map, split, merge, repair
//! mm               a process's memory: pinned, and charged to it
//! policy           which leaf sizes are allowed where
//! iommu            a domain: its groups, its page table, map, unmap, and the flush of the IOTLB
//! sys              the edge to C: bindings, helpers, parameters, trace events, test gates
//! pgtable          page tables: entries, leaves, split, merge; `core` alone, built on the host, too
//! ```
//!
//! `uapi` and `debugfs` do not know each other, nor do `mm` and `policy`. Within a layer, too, no two
//! files know each other. Where a lower layer has to call an upper one it is given a function
//! ([`rmp`]: what the worker does) or a trait object ([`iommu`]: where the hook has its tables from).
//! `tools/vm/layers.py` prints who knows whom, and `make check` fails on an edge upward or a cycle.
//! A layer's `mod.rs` names what others may use of it.
//!
//! # How data flows
//!
//! ```text
//! VMM ─ ioctl ─ vfio.ko ─► backend ─► uapi ─► container ─┬─► policy   range → segments
//!                                                        ├─► mm       process memory → pinned runs
//!                                                        ├─► rmp ─┬─► iommu ─► pgtable   runs → leaves
//!                                                        │        └─► the reverse map    what is followed
//!                                                        └─► iommu ─► pgtable   leaves → extents; flush
//!
//! KVM ─ psmash() ... ─ fprobe ─► rmp: hook.c ─► smash ─► rmap ─► split ─► iommu ─► pgtable
//!                                       └─ later ─► work ··► container: worker ─► repair, event ─► VMM
//!
//! map:    request → pinned run → segments → leaves in each domain → mapping
//! unmap:  mapping → extents read from the table → leaves gone → IOTLB flushed → unpinned
//! state:  shared:  holes read from the table → as map → whole blocks joined
//!         private: ends cut → as unmap
//! apply:  policy → segments → cuts and conversions → IOTLB flushed → tables freed
//! smash:  block → contiguous runs → leaf → table built, one store → IOTLB flushed → then the RMP changes
//! ```
//!
//! Each arrow is a call, and `··►` a call of a function that was given. The page table is the only
//! record of which frames a mapping has: nothing is kept beside it. A page is unpinned only with a [`iommu::Flushed`] in hand.
//!
//! # Locks
//!
//! ```text
//! vfio's group_lock, iommu_drivers_lock
//!   ├─ registry::CONTAINERS (spin)       which containers there are; nothing is done under it
//!   └─ Container::state (mutex)          all that a container has
//!        ├─ HOOKS (mutex)                how many want the hook
//!        ├─ the IOMMU core's group mutex
//!        └─ the rmap's lock (spin, irq-safe)   leaves of 2M and more that are followed
//!             └─ the driver's locks (spin): the flush
//!
//! mmap_lock, Container::call_scratch (mutex)    under none of these
//! claims                                 waited for under none of these
//! ```
//!
//! Quick changes of page states are pinned under the container's lock, where GUP may take mmap_lock,
//! but faults nothing in. A claim is a range at which a call is at work while it does not hold the
//! container's lock: see [`claim`].
//!
//! All but `rmp/smash.rs` runs in process context and may sleep. That runs with preemption off, under
//! the rmap's lock.

#![deny(unsafe_code)]

use kernel::prelude::*;

mod backend;
mod container;
mod debugfs;
mod iommu;
mod mm;
// It is a crate of its own on the host, where more of it is used.
#[allow(dead_code, unreachable_pub, unused_imports)]
mod pgtable;
mod policy;
mod rmp;
mod sys;
mod uapi;

module! {
    type: Module,
    name: "vfio_pgsize",
    authors: ["The vfio-pgsize authors"],
    description: "VFIO IOMMU backend with IOMMU page sizes chosen by the VMM",
    license: "GPL v2",
}

/// The module, loaded: it serves containers until it is dropped.
struct Module {
    _registration: backend::Registration,
    _watch_cache: rmp::WatchCache,
}

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        rmp::init();
        container::init();
        let watch_cache = rmp::WatchCache::new()?;

        Ok(Self {
            _registration: backend::Registration::new()?,
            _watch_cache: watch_cache,
        })
    }
}
