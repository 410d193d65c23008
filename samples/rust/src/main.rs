// SPDX-License-Identifier: GPL-2.0

//! A small VMM on rust-vmm's crates that chooses the IOMMU page size of the
//! memory that a PCI device reaches, before and after mapping it.
//!
//! `vfio-ioctls` opens the container with the type VFIO_TYPE1v2_IOMMU, as for any
//! VMM: load vfio_pgsize with `serve_type1v2=1`. Such a VMM adds only the calls in
//! [`pgsize`]. With `--states` it opens a container of vfio_pgsize's own type, for
//! the calls in [`states`].

use std::io::stdin;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use anyhow::Context;
use clap::Parser;
use vfio_ioctls::VfioContainer;
use vfio_ioctls::VfioDevice;
use vm_memory::Bytes;
use vm_memory::MmapRegion;
use vm_memory::VolatileMemory;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use crate::edu::Edu;
use crate::edu::BUFFER_SIZE;
use crate::pgsize::Sizes;
use crate::states::Change;
use crate::states::State;

mod edu;
mod pgsize;
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
    let container = states::Container::open(sysfs).with_context(|| options.address.clone())?;
    let memory = huge_pages(usize::from(options.mib) << 20)?;

    // SAFETY: `memory` is not touched here, and outlives the container's mapping: both end with us.
    unsafe { states::map_stateful(&container, IOVA, memory.size(), memory.as_ptr()) }.context(
        "cannot map the memory, with page states (on an IOMMU of AMD's host format only)",
    )?;
    for (text, at, size, state) in [
        ("share:0:4K", 0, PAGE, State::Shared),
        ("share:0:2M", 0, HUGE, State::Shared),
        ("private:1M:4K", HUGE / 2, PAGE, State::Private),
        ("private:0:2M", 0, HUGE, State::Private),
    ] {
        println!("conversion {text}");
        states::set_state(&container, &[Change::new(IOVA + at, size, state)])
            .map_err(|(done, error)| anyhow::anyhow!("{text}: {error}, {done} changes done"))?;
        if !report(&container, None, options)? {
            break;
        }
    }
    Ok(())
}

/// Sets an eventfd that the module signals when a leaf could not follow the RMP.
fn watched(container: &VfioContainer) -> std::io::Result<EventFd> {
    let event = EventFd::new(EFD_NONBLOCK)?;
    pgsize::set_event(container, &event)?;
    Ok(event)
}

/// Prints the counters of following; a VMM has the eventfd in its main loop.
fn print_following(container: &impl AsRawFd, event: &EventFd) -> anyhow::Result<()> {
    let stats = pgsize::stats(container).context("the container cannot report what it counted")?;
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
    container: &impl AsRawFd,
    event: Option<&EventFd>,
    options: &Options,
) -> anyhow::Result<bool> {
    for run in pgsize::leaves(container, IOVA, u64::from(options.mib) << 20)
        .context("the container cannot report its leaves")?
    {
        println!("{run}");
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
        pgsize::is_type1v2_offered(&states::open_container()?),
        "no backend of VFIO serves VFIO_TYPE1v2_IOMMU: load vfio_pgsize with serve_type1v2=1"
    );
    let container = Arc::new(VfioContainer::new(None).context("cannot open a VFIO container")?);
    let device = VfioDevice::new(sysfs, container.clone(), false).with_context(|| {
        format!(
            "{}: bind it to vfio-pci, and end who uses it; the log may say why its group is refused",
            options.address
        )
    })?;

    ensure!(
        pgsize::is_offered(&*container),
        "another backend serves the container: load vfio_pgsize with serve_type1v2=1, \
         after vfio_iommu_type1"
    );
    Ok((container, device))
}

/// The cause of a failed SET_POLICY with these sizes.
fn explain(container: &VfioContainer, sizes: Sizes, follow: bool, error: &Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) if follow => {
            "leaves cannot follow the RMP here: that needs an SNP host, the page table format of \
             AMD's IOMMU, and a kernel whose RMP functions can be probed. Leave out --follow"
                .to_owned()
        }
        Some(libc::EOPNOTSUPP) => {
            "mapped memory cannot be converted: that needs an IOMMU page table of AMD's host \
             format. Give one set of page sizes only"
                .to_owned()
        }
        Some(libc::EINVAL) if !sizes.have_4k() => {
            format!("the set of page sizes {sizes} lacks 4K, which each set must have")
        }
        Some(libc::EINVAL) => match pgsize::supported(container) {
            Ok(known) => format!(
                "the IOMMU has no leaves of {}; it has {known}",
                sizes.without(known)
            ),
            Err(_) => "the IOMMU lacks one of the page sizes".to_owned(),
        },
        _ => "cannot set the policy".to_owned(),
    }
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
        .map(|text| text.parse::<Sizes>().map_err(anyhow::Error::msg))
        .collect::<Result<Vec<_>, _>>()?;

    let (container, device) = open_device(&options, &sysfs)?;
    let edu = Edu::new(&device).with_context(|| options.address.clone())?;
    let event = options
        .follow
        .then(|| watched(&container))
        .transpose()
        .context("the container takes no eventfd")?;
    let memory = huge_pages(usize::from(options.mib) << 20)?;

    for (i, (sizes, text)) in sizes.into_iter().zip(&options.sizes).enumerate() {
        let first = i == 0;
        let set = |apply| {
            pgsize::set_policy(&*container, sizes, apply, options.follow).map_err(|error| {
                let why = explain(&container, sizes, options.follow, &error);
                anyhow::Error::new(error).context(why)
            })
        };
        if first {
            println!("policy {text}, set before mapping");
            set(false)?;
            // SAFETY: from here on `memory` is touched by volatile accesses
            // only, and it outlives `container`'s mapping: both end with us.
            unsafe { container.vfio_dma_map(IOVA, memory.size(), memory.as_ptr()) }
                .context("cannot map the memory for the device")?;
            copy_by_device(&edu, &memory, i + 1, || Ok(()))?;
        } else {
            println!("policy {text}, applied to mapped memory under DMA");
            copy_by_device(&edu, &memory, i + 1, || set(true))?;
        }
        if !report(&*container, event.as_ref(), &options)? {
            break;
        }
    }
    Ok(())
}
