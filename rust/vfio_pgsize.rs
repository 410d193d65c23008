// SPDX-License-Identifier: GPL-2.0

//! A VFIO IOMMU backend that lets the VMM choose the leaf sizes of the IOMMU page table.
//!
//! The glossary is in `Documentation/design.rst`, and the terms of page tables are in [`pgtable`].
//!
//! # Layers
//!
//! A folder is a layer, and so is a file beside the folders. A layer uses the layers below it only:
//!
//! ```text
//! vfio_pgsize.rs   the module
//! backend          registration with VFIO, and the operations that VFIO calls
//! uapi             ioctls: copies and checks arguments, makes typed requests, writes results
//! debugfs          files of a container
//! container        one VMM's address space: mappings, page states, policies, groups; the worker
//! rmp              leaves that follow the RMP: the hook, the reverse map, split, merge, repair
//! mm               process memory: pinning and accounting
//! policy           the allowed leaf sizes of ranges
//! iommu            a domain: its groups, its page table, map, unmap, IOTLB flush
//! sys              the interface to C: bindings, helpers, parameters, trace events, test gates
//! pgtable          page tables: entries, leaves, split, merge; `core` only, also built on the host
//! ```
//!
//! `uapi` and `debugfs` do not use each other, nor do `mm` and `policy`. The files of a layer have no
//! cycle either. Where a lower layer calls an upper one, it is given a function ([`rmp`]: the work of the
//! worker) or a trait object ([`iommu`]: where the hook gets tables). `tools/vm/layers.py` prints the
//! graph, and `make check` fails on an upward edge or a cycle. The `mod.rs` of a layer lists what other
//! layers may use.
//!
//! # Data flow
//!
//! ```text
//! VMM ─ ioctl ─ vfio.ko ─► backend ─► uapi ─► container ─┬─► policy   range → segments
//!                                                        ├─► mm       process memory → pinned runs
//!                                                        ├─► rmp ─┬─► iommu ─► pgtable   runs → leaves
//!                                                        │        └─► the reverse map    watches
//!                                                        └─► iommu ─► pgtable   leaves → extents; flush
//!
//! KVM ─ psmash() ... ─ fprobe ─► rmp: hook.c ─► smash ─► rmap ─► split ─► iommu ─► pgtable
//!                                       └─ later ─► work ··► container: worker ─► repair, event ─► VMM
//!
//! map:    request → pinned runs → segments → leaves in each domain → mapping
//! unmap:  mapping → extents read from the table → leaves unmapped → IOTLB flush → unpin
//! state:  shared:  holes read from the table → as map → whole blocks merged
//!         few pages shared: free entries found → pages pinned → entries checked again, and filled
//!         private: split at boundaries → as unmap
//! apply:  policy → segments → splits and conversions → IOTLB flush → tables freed
//! smash:  block → watches → leaf → table built, one store → IOTLB flush → the RMP changes
//! ```
//!
//! `─►` is a call, `··►` a call through a function pointer. The page table is the only record of the
//! frames of a mapping. A page is unpinned only with a [`iommu::Flushed`].
//!
//! # Locks
//!
//! ```text
//! the module notifiers' lock (rwsem)      while vfio_iommu_type1 is loaded or unloaded
//!   └─ vfio's iommu_drivers_lock
//!
//! vfio's group_lock, iommu_drivers_lock
//!   ├─ registry::CONTAINERS (spin)       the list of containers; a leaf lock
//!   ├─ Container::devices (mutex)        while emulated devices are told to unpin
//!   │    └─ locks of their drivers
//!   └─ Container::state (mutex)          everything in a container; also under the drivers' locks
//!        ├─ HOOKS (mutex)                the users of the hook
//!        │    └─ entry.c: users_lock (mutex)   those who read the RMP; also without HOOKS
//!        ├─ the IOMMU core's group mutex
//!        └─ the rmap's lock (spin, irq-safe)   the leaves of watches
//!             └─ the driver's locks (spin): IOTLB flush
//!
//! mmap_lock, Container::call_scratch (mutex)   taken with none of these held
//! claims                                       waited for with none of these held
//! ```
//!
//! GUP takes mmap_lock, and may wait for userspace: all pages are pinned, and processes charged, with
//! none of these held. A claim reserves a range for a call that drops the container's lock: see
//! `container/claims.rs`.
//!
//! Everything runs in process context and may sleep, except `rmp/smash.rs`, which runs with preemption
//! off and under the rmap's lock.

#![deny(unsafe_code)]

use kernel::prelude::*;

mod backend;
mod container;
mod debugfs;
mod iommu;
mod mm;
// A crate of its own on the host, which uses more of it.
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

/// The loaded module.
struct Module {
    /// Dropped first: watches need their cache.
    _registration: backend::Registration,
    /// The cache of watches.
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
