// SPDX-License-Identifier: GPL-2.0

//! Page states, and conversions.

use anyhow::ensure;
use vfio_ioctls::VfioOps;
use vfio_pgsize::convert;
use vfio_pgsize::Change;
use vfio_pgsize::Container;
use vfio_pgsize::Error;
use vfio_pgsize::IovaRange;
use vfio_pgsize::State;
use vfio_pgsize::Step;

use crate::vmm;
use crate::vmm::pattern;
use crate::vmm::read_page;
use crate::vmm::write_page;
use crate::vmm::Guest;
use crate::vmm::Vmm;

const IOVA: u64 = 0x400_0000;
const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;

/// Pages by number.
fn pages(first: u64, count: u64) -> IovaRange {
    IovaRange::new(IOVA + first * PAGE, count * PAGE)
}

fn is_reached(container: &impl Container, range: IovaRange) -> anyhow::Result<bool> {
    let mut runs = container.leaves(range).with_private();
    let run = runs.next().ok_or(Error::NotStateful)??;
    Ok(!run.is_private())
}

pub fn by_vfio_ops() -> anyhow::Result<()> {
    let vmm = Vmm::new(0)?;
    let edu = vmm.edu()?;
    let container = &*vmm.ops;
    let memory = vmm::huge_pages(2 * HUGE as usize)?;
    let all = IovaRange::new(IOVA, 2 * HUGE);

    let ops: &dyn VfioOps = container;
    // SAFETY: the memory is touched by volatile accesses only, and ends with the container's mapping.
    unsafe { ops.vfio_dma_map(IOVA, memory.size(), memory.as_ptr())? };
    let stats = container.stats()?;
    ensure!((stats.shared, stats.stateful) == (0, 2 * HUGE));
    let runs = container
        .leaves(all)
        .with_private()
        .collect::<Result<Vec<_>, _>>()?;
    ensure!(
        runs.len() == 1 && runs[0].is_private() && runs[0].range() == all,
        "{runs:?}"
    );

    container.set_state(&[Change::new(IovaRange::new(IOVA, HUGE), State::Shared)])?;
    let runs = container
        .leaves(all)
        .with_private()
        .collect::<Result<Vec<_>, _>>()?;
    ensure!(runs.len() == 2 && runs[0].page_size() == Some(HUGE) && runs[1].is_private());
    write_page(&memory, 0, &pattern(3))?;
    edu.read(IOVA).finish()?;
    edu.write(IOVA + PAGE).finish()?;
    ensure!(
        read_page(&memory, PAGE as usize)? == pattern(3),
        "the bytes are others"
    );

    // SAFETY: the map fails.
    ensure!(unsafe { ops.vfio_dma_map(IOVA, memory.size(), memory.as_ptr()) }.is_err());
    ops.vfio_dma_unmap(IOVA, memory.size())?;
    ensure!(container.stats()?.stateful == 0);
    Ok(())
}

pub fn how_many_are_done() -> anyhow::Result<()> {
    let vmm = Vmm::new(0)?;
    let container = &*vmm.ops;
    let guest = Guest::new(IOVA, HUGE as usize, PAGE * 2)?;
    let change = |range| Change::new(range, State::Shared);

    // SAFETY: the memory is not touched, and ends with the container's mapping.
    unsafe {
        container.map_stateful(
            IovaRange::new(IOVA, HUGE),
            guest.memory.as_ptr(),
            State::Private,
        )?;
    }
    let error = container
        .set_state(&[
            change(pages(0, 1)),
            change(IovaRange::new(0, PAGE)),
            change(pages(1, 1)),
        ])
        .unwrap_err();
    ensure!(
        error.done == 1 && matches!(error.source, Error::NotStateful),
        "{error}"
    );
    ensure!(container.stats()?.shared == PAGE);

    // Beyond the end of the file.
    let error = container
        .set_state(&[change(pages(0, 2)), change(pages(2, 1))])
        .unwrap_err();
    ensure!(
        error.done == 1 && matches!(error.source, Error::BadMemory(_)),
        "{error}"
    );
    ensure!(container.stats()?.shared == 2 * PAGE);
    let error = container
        .set_state(&[change(IovaRange::new(IOVA, 1))])
        .unwrap_err();
    ensure!(
        error.done == 0 && matches!(error.source, Error::Misaligned(..)),
        "{error}"
    );
    container.set_state(&[])?;
    Ok(())
}

pub fn conversions() -> anyhow::Result<()> {
    let vmms = [Vmm::new(0)?, Vmm::new(1)?];
    let mut guest = Guest::new(IOVA, HUGE as usize, HUGE)?;
    for vmm in &vmms {
        let range = IovaRange::new(IOVA, HUGE);
        // SAFETY: the memory is touched by volatile accesses only, and ends with the mapping.
        unsafe {
            vmm.ops
                .map_stateful(range, guest.memory.as_ptr(), State::Private)?
        };
    }
    let containers = || vmms.iter().map(|vmm| &*vmm.ops);
    ensure!(guest.bytes()? == 0);

    convert(containers(), &mut guest, pages(0, 4), State::Shared)?;
    ensure!(
        guest.bytes()? == 4 * PAGE,
        "it has {} bytes",
        guest.bytes()?
    );
    for (seed, vmm) in (10..).zip(&vmms) {
        let edu = vmm.edu()?;
        write_page(&guest.memory, 0, &pattern(seed))?;
        edu.read(IOVA).finish()?;
        edu.write(pages(1, 1).iova).finish()?;
        ensure!(
            read_page(&guest.memory, PAGE as usize)? == pattern(seed),
            "the bytes are others"
        );
    }

    // The pages are freed, since nothing pins them, and no device writes to them.
    convert(containers(), &mut guest, pages(1, 2), State::Private)?;
    ensure!(
        guest.bytes()? == 2 * PAGE,
        "it has {} bytes",
        guest.bytes()?
    );
    for vmm in &vmms {
        ensure!(!is_reached(&*vmm.ops, pages(1, 1))? && is_reached(&*vmm.ops, pages(3, 1))?);
        vmm.edu()?.write(pages(1, 1).iova).finish()?;
    }
    ensure!(
        guest.bytes()? == 2 * PAGE,
        "a device wrote to a private page"
    );
    let expected = [(pages(0, 4), State::Shared), (pages(1, 2), State::Private)];
    ensure!(guest.attributes == expected, "{:?}", guest.attributes);
    Ok(())
}

pub fn undone() -> anyhow::Result<()> {
    let vmms = [Vmm::new(0)?, Vmm::new(1)?];
    let mut guest = Guest::new(IOVA, HUGE as usize, HUGE)?;
    // Of this memory the second container gets only the first pages.
    let short = Guest::new(IOVA, HUGE as usize, 4 * PAGE)?;
    for (vmm, memory) in vmms.iter().zip([&guest.memory, &short.memory]) {
        let range = IovaRange::new(IOVA, HUGE);
        // SAFETY: the memory is not touched, and ends with the mapping.
        unsafe {
            vmm.ops
                .map_stateful(range, memory.as_ptr(), State::Private)?
        };
    }
    let containers = || vmms.iter().map(|vmm| &*vmm.ops);

    convert(containers(), &mut guest, pages(2, 1), State::Shared)?;
    guest.attributes.clear();
    let error = convert(containers(), &mut guest, pages(0, 8), State::Shared).unwrap_err();
    ensure!(
        error.step == Step::SetState(1) && error.is_restored,
        "{error}"
    );
    ensure!(error.hypercall_ret() == libc::EINVAL as u64);
    ensure!(
        matches!(error.source.downcast_ref(), Some(Error::BadMemory(_))),
        "{error}"
    );
    // All is as it was, but for the page that was shared before.
    for vmm in &vmms {
        ensure!(vmm.ops.stats()?.shared == PAGE);
        ensure!(is_reached(&*vmm.ops, pages(2, 1))? && !is_reached(&*vmm.ops, pages(3, 1))?);
    }
    let expected = [
        (pages(0, 8), State::Shared),
        (pages(0, 2), State::Private),
        (pages(3, 5), State::Private),
    ];
    ensure!(guest.attributes == expected, "{:?}", guest.attributes);
    Ok(())
}

pub fn partial_unmap() -> anyhow::Result<()> {
    let vmm = Vmm::new(0)?;
    let container = &*vmm.ops;
    let memory = vmm::huge_pages(HUGE as usize)?;
    let all = IovaRange::new(IOVA, HUGE);

    // SAFETY: the memory is not touched, and ends with the container's mapping.
    unsafe { container.map_stateful(all, memory.as_ptr(), State::Shared)? };
    ensure!(container.stats()?.shared == HUGE);
    ensure!(container.unmap(pages(16, 1))? == PAGE);
    ensure!(container.stats()?.shared == HUGE - PAGE);
    let bytes = container
        .leaves(all)
        .map(|run| run.map(|run| run.range().size))
        .sum::<Result<u64, _>>()?;
    ensure!(bytes == HUGE - PAGE);
    Ok(())
}
