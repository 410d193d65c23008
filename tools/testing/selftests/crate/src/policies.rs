// SPDX-License-Identifier: GPL-2.0

//! Policies, and the leaves that they make.

use std::sync::Arc;

use anyhow::ensure;
use vfio_ioctls::VfioContainer;
use vfio_ioctls::VfioDevice;
use vfio_pgsize::Container;
use vfio_pgsize::Error;
use vfio_pgsize::IovaRange;
use vfio_pgsize::PageSizes;
use vfio_pgsize::Policy;
use vfio_pgsize::Scope;
use vfio_pgsize::State;

use crate::vmm;
use crate::vmm::pattern;
use crate::vmm::read_page;
use crate::vmm::write_page;
use crate::vmm::Vmm;

/// Where the device sees the memory: below edu's 256 MiB.
const ALL: IovaRange = IovaRange::new(0x400_0000, 8 << 20);
const HUGE: u64 = 2 << 20;

/// Leaf sizes, and how many of each follow one another.
fn leaves(container: &impl Container, range: IovaRange) -> anyhow::Result<Vec<(u64, u64)>> {
    container
        .leaves(range)
        .map(|run| {
            let run = run?;
            ensure!(run.is_readable() && run.is_writable() && !run.is_private());
            Ok((run.page_size().unwrap_or(0), run.count()))
        })
        .collect()
}

pub fn under_dma() -> anyhow::Result<()> {
    vmm::load("")?;
    let vmm = Vmm::new(0)?;
    let edu = vmm.edu()?;
    let container = &*vmm.ops;
    let sizes = PageSizes::SIZE_4K | PageSizes::SIZE_2M;
    let memory = vmm::huge_pages(ALL.size as usize)?;
    let last = ALL.size as usize - 4096;

    ensure!(container.policy()? == Policy::new(PageSizes::ALL));
    container.set_policy(Scope::Container, Policy::new(sizes))?;
    ensure!(container.policy()? == Policy::new(sizes));
    // SAFETY: the memory is touched by volatile accesses only, and ends with the container's mapping.
    unsafe { container.map(ALL, memory.as_ptr())? };
    ensure!(container.domains()? == 1);
    ensure!(leaves(container, ALL)? == [(HUGE, 4)]);

    for (seed, policy, expected) in [(1, PageSizes::SIZE_4K, (4096, 2048)), (2, sizes, (HUGE, 4))] {
        write_page(&memory, 0, &pattern(seed))?;
        let transfer = edu.read(ALL.iova);
        container.apply_policy(Scope::Container, Policy::new(policy))?;
        transfer.finish()?;
        edu.write(ALL.iova + last as u64).finish()?;
        ensure!(
            read_page(&memory, last)? == pattern(seed),
            "the bytes are others"
        );
        ensure!(leaves(container, ALL)? == [expected]);
    }
    Ok(())
}

pub fn of_ranges() -> anyhow::Result<()> {
    let vmm = Vmm::new(0)?;
    let container = &*vmm.ops;
    let memory = vmm::huge_pages(ALL.size as usize)?;
    let policy = Policy::new(PageSizes::SIZE_4K | PageSizes::SIZE_2M);
    let first = IovaRange::new(ALL.iova, HUGE);
    let small = Policy::new(PageSizes::SIZE_4K);

    container.set_policy(Scope::Container, policy)?;
    container.set_policy(Scope::Range(first), small)?;
    // SAFETY: the memory is not touched, and ends with the container's mapping.
    unsafe { container.map(ALL, memory.as_ptr())? };
    ensure!(leaves(container, ALL)? == [(4096, 512), (HUGE, 3)]);

    let parts = container.policies().collect::<Result<Vec<_>, _>>()?;
    let found: Vec<_> = parts
        .iter()
        .map(|part| (part.range.iova, part.policy, part.is_inherited))
        .collect();
    ensure!(
        found
            == [
                (0, policy, true),
                (ALL.iova, small, false),
                (ALL.iova + HUGE, policy, true)
            ]
    );
    let at = container.policy_at(ALL.iova + 4096)?;
    ensure!(at.range.size == HUGE - 4096 && !at.is_inherited);
    let info = container.info()?;
    ensure!(info.nr_ranges == 1 && info.max_ranges == 1024 && info.sizes == policy.sizes);
    ensure!(info.supported.contains(HUGE) && info.available_mappings == Some(65534));
    ensure!(info
        .iova_ranges
        .iter()
        .any(|range| range.contains(&ALL.iova)));

    container.apply_inherited_policy(first)?;
    ensure!(leaves(container, ALL)? == [(HUGE, 4)]);
    ensure!(container.policies().count() == 1);

    ensure!(container.tracking_sizes()? == PageSizes::SIZE_4K);
    container.set_tracking_sizes(policy.sizes)?;
    ensure!(container.tracking_sizes()? == policy.sizes);
    Ok(())
}

/// An unmodified vfio-ioctls, if the module serves its type.
pub fn of_type1v2() -> anyhow::Result<()> {
    vmm::load("serve_type1v2=1")?;
    let container = Arc::new(VfioContainer::new(None)?);
    let device = VfioDevice::new(&vmm::sysfs(0)?, container.clone(), false)?;
    let memory = vmm::huge_pages(HUGE as usize)?;
    let range = IovaRange::new(ALL.iova, HUGE);

    container.require(1)?;
    container.set_policy(Scope::Container, Policy::new(PageSizes::SIZE_4K))?;
    // SAFETY: the memory is not touched, and ends with the container's mapping.
    unsafe { container.vfio_dma_map(range.iova, HUGE as usize, memory.as_ptr())? };
    ensure!(leaves(&container, range)? == [(4096, 512)]);

    let result = container.unmap(IovaRange::new(range.iova, 4096));
    ensure!(
        matches!(result, Err(Error::DividesMapping(_))),
        "{result:?}"
    );
    let other = IovaRange::new(0, HUGE);
    // SAFETY: the map fails.
    let result = unsafe { container.map_stateful(other, memory.as_ptr(), State::Private) };
    ensure!(matches!(result, Err(Error::NoPageStates)), "{result:?}");
    drop(device);
    vmm::load("")
}
