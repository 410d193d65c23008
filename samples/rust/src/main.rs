// SPDX-License-Identifier: GPL-2.0

//! A small VMM on rust-vmm's crates that chooses the IOMMU page size of the
//! memory that a PCI device reaches, before and after mapping it.
//!
//! The calls are those of the crate vfio-pgsize. `vfio-ioctls` opens the container with the type
//! VFIO_TYPE1v2_IOMMU, as for any VMM: load vfio_pgsize with `serve_type1v2=1`. With `--states` the
//! sample opens a container of vfio_pgsize's own type, by [`states`].

use std::io::stdin;
use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use anyhow::Context;
use clap::Parser;
use vfio_bindings::bindings::vfio::VFIO_TYPE1v2_IOMMU;
use vfio_ioctls::VfioContainer;
use vfio_ioctls::VfioDevice;
use vfio_pgsize::Calls;
use vfio_pgsize::Change;
use vfio_pgsize::Container;
use vfio_pgsize::Error;
use vfio_pgsize::Follow;
use vfio_pgsize::IovaRange;
use vfio_pgsize::PageSizes;
use vfio_pgsize::Policy;
use vfio_pgsize::Scope;
use vfio_pgsize::State;
use vm_memory::Bytes;
use vm_memory::MmapRegion;
use vm_memory::VolatileMemory;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use crate::edu::Edu;
use crate::edu::BUFFER_SIZE;

mod edu;
mod states;

/// Where the device sees the memory: a 2M multiple below edu's 256 MiB.
const IOVA: u64 = 0x400_0000;

/// Choose the IOMMU page size of memory that an edu device copies.
///
/// Maps 2M huge pages for an edu device that is bound to vfio-pci. The first
/// SIZES are the policy before mapping; each further one is applied to mapped
/// memory while the device does DMA. After each it prints the leaves:
/// run IOVA SIZE PAGE-SIZE ACCESS (leaves: COUNT).
#[derive(Parser)]
#[command(name = "pgsize-client-rs", verbatim_doc_comment)]
struct Options {
    /// Memory to map, an even number of MiB
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(2..=128))]
    mib: u8,
    /// Wait for a line on standard input after each report
    #[arg(long)]
    pause: bool,
    /// Share pages of one mapping and take them back instead, and print the leaves
    #[arg(long)]
    states: bool,
    /// Leaves follow the RMP (on an SNP host only); each report also has the
    /// counts of splits, merges and failures
    #[arg(long)]
    follow: bool,
    /// PCI address of the edu device, as 0000:00:03.0
    address: String,
    /// Leaf sizes allowed, as 4K or 4K,2M or all
    #[arg(default_values = ["4K", "all"])]
    sizes: Vec<String>,
}

fn huge_pages(size: usize) -> anyhow::Result<MmapRegion> {
    MmapRegion::build(
        None,
        size,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
    )
    .with_context(|| {
        format!(
            "no {} huge pages of 2M: reserve them in \
             /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            size >> 21
        )
    })
}

/// Makes the device copy the first page to the last; `meanwhile` runs while the
/// device reads.
fn copy_by_device(
    edu: &Edu<'_>,
    memory: &MmapRegion,
    seed: usize,
    meanwhile: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let last = memory.size() - BUFFER_SIZE;
    let sent: Vec<u8> = (0..BUFFER_SIZE)
        .map(|i| (seed ^ i ^ (i >> 8)) as u8)
        .collect();
    let mut received = vec![0; BUFFER_SIZE];
    memory.as_volatile_slice().write_slice(&sent, 0)?;
    let transfer = edu.read(IOVA);
    meanwhile()?;
    transfer.finish()?;
    edu.write(IOVA + last as u64).finish()?;
    memory.as_volatile_slice().read_slice(&mut received, last)?;
    ensure!(sent == received, "the bytes that DMA moved did not arrive");
    println!(
        "dma {BUFFER_SIZE} bytes, from iova {IOVA:#x} through the device to {:#x}: same",
        IOVA + last as u64
    );
    Ok(())
}

/// Shares a page, shares its 2M, and takes a page back, without DMA.
fn share_pages(options: &Options, sysfs: &Path) -> anyhow::Result<()> {
    const PAGE: u64 = 4096;
    const HUGE: u64 = 2 << 20;
    let container = states::Opened::new(sysfs).with_context(|| options.address.clone())?;
    let memory = huge_pages(usize::from(options.mib) << 20)?;
    let all = IovaRange::new(IOVA, memory.size() as u64);

    // SAFETY: `memory` is not touched here, and outlives the container's mapping: both end with us.
    unsafe { container.map_stateful(all, memory.as_ptr(), State::Private) }?;
    for (text, at, size, state) in [
        ("share:0:4K", 0, PAGE, State::Shared),
        ("share:0:2M", 0, HUGE, State::Shared),
        ("private:1M:4K", HUGE / 2, PAGE, State::Private),
        ("private:0:2M", 0, HUGE, State::Private),
    ] {
        println!("conversion {text}");
        container
            .set_state(&[Change::new(IovaRange::new(IOVA + at, size), state)])
            .context(text)?;
        if !report(&container, None, options)? {
            break;
        }
    }
    Ok(())
}

/// Sets an eventfd that the module signals when a leaf could not follow the RMP.
fn watched(container: &VfioContainer) -> anyhow::Result<EventFd> {
    let event = EventFd::new(EFD_NONBLOCK)?;
    container.set_eventfd(&event)?;
    Ok(event)
}

/// Prints the counters of following; a VMM has the eventfd in its main loop.
fn print_following(container: &impl Container, event: &EventFd) -> anyhow::Result<()> {
    let stats = container.stats()?;
    println!("followed {} splits, {} merges", stats.splits, stats.merges);
    if event.read().is_ok() {
        println!(
            "trouble {} fallbacks, {} repairs, {} missed calls, {} mismatches",
            stats.fallbacks, stats.repairs, stats.missed, stats.mismatches
        );
    }
    Ok(())
}

/// Prints the leaves, and waits if asked to.
fn report(
    container: &impl Container,
    event: Option<&EventFd>,
    options: &Options,
) -> anyhow::Result<bool> {
    for run in container.leaves(IovaRange::new(IOVA, u64::from(options.mib) << 20)) {
        println!("run {}", run?);
    }
    if let Some(event) = event {
        print_following(container, event)?;
    }
    println!(".");
    Ok(!options.pause || stdin().read_line(&mut String::new())? != 0)
}

/// Opens a type1v2 container that vfio_pgsize serves, with the device's group.
fn open_device(
    options: &Options,
    sysfs: &Path,
) -> anyhow::Result<(Arc<VfioContainer>, VfioDevice)> {
    // The error of vfio-ioctls has no cause.
    ensure!(
        states::open_container()?.raw_check_extension(VFIO_TYPE1v2_IOMMU)? > 0,
        "no backend of VFIO serves VFIO_TYPE1v2_IOMMU: load vfio_pgsize with serve_type1v2=1"
    );
    let container = Arc::new(VfioContainer::new(None).context("cannot open a VFIO container")?);
    let device = VfioDevice::new(sysfs, container.clone(), false).with_context(|| {
        format!(
            "{}: bind it to vfio-pci, and end who uses it; the log may say why its group is refused",
            options.address
        )
    })?;

    container.require(1)?;
    Ok((container, device))
}

/// The error of a policy, in the words of the command line.
fn explain(error: Error) -> anyhow::Error {
    let advice = match error {
        Error::CannotFollow => "Leave out --follow",
        Error::PageTableFormat(_) => "Give one set of page sizes only",
        _ => "cannot set the policy",
    };
    anyhow::Error::new(error).context(advice)
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.mib % 2 == 0, "--mib: a huge page has 2 MiB");
    let sysfs = Path::new("/sys/bus/pci/devices").join(&options.address);
    if options.states {
        return share_pages(&options, &sysfs);
    }
    let sizes = options
        .sizes
        .iter()
        .map(|text| text.parse::<PageSizes>())
        .collect::<Result<Vec<_>, _>>()?;

    let (container, device) = open_device(&options, &sysfs)?;
    let edu = Edu::new(&device).with_context(|| options.address.clone())?;
    let event = options.follow.then(|| watched(&container)).transpose()?;
    let memory = huge_pages(usize::from(options.mib) << 20)?;
    let follow = if options.follow {
        Follow::SplitAndMerge
    } else {
        Follow::No
    };

    for (i, (sizes, text)) in sizes.into_iter().zip(&options.sizes).enumerate() {
        let first = i == 0;
        let policy = Policy::new(sizes).follow(follow);
        if first {
            println!("policy {text}, set before mapping");
            container
                .set_policy(Scope::Container, policy)
                .map_err(explain)?;
            // SAFETY: from here on `memory` is touched by volatile accesses
            // only, and it outlives `container`'s mapping: both end with us.
            unsafe { container.vfio_dma_map(IOVA, memory.size(), memory.as_ptr()) }
                .context("cannot map the memory for the device")?;
            copy_by_device(&edu, &memory, i + 1, || Ok(()))?;
        } else {
            println!("policy {text}, applied to mapped memory under DMA");
            copy_by_device(&edu, &memory, i + 1, || {
                container
                    .apply_policy(Scope::Container, policy)
                    .map_err(explain)
            })?;
        }
        if !report(&container, event.as_ref(), &options)? {
            break;
        }
    }
    Ok(())
}
