// SPDX-License-Identifier: GPL-2.0

//! What is refused, and why, as the kernel does it.

use std::fs::File;
use std::sync::Arc;

use anyhow::ensure;
use vfio_ioctls::VfioContainer;
use vfio_ioctls::VfioDevice;
use vfio_ioctls::VfioError;
use vfio_pgsize::Change;
use vfio_pgsize::Container;
use vfio_pgsize::Error;
use vfio_pgsize::Follow;
use vfio_pgsize::IovaRange;
use vfio_pgsize::PageSizes;
use vfio_pgsize::Policy;
use vfio_pgsize::Scope;
use vfio_pgsize::State;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use crate::vmm;
use crate::vmm::Vmm;

const PAGE: IovaRange = IovaRange::new(0x400_0000, 4096);

/// Fails if the result is not an error of this pattern.
macro_rules! ensure_error {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => (),
            Err(other) => anyhow::bail!("{}: {other:?}: {other}", stringify!($pattern)),
            Ok(_) => anyhow::bail!("{}: it succeeded", stringify!($pattern)),
        }
    };
}

fn container() -> anyhow::Result<File> {
    Ok(File::options()
        .read(true)
        .write(true)
        .open("/dev/vfio/vfio")?)
}

pub fn no_module() -> anyhow::Result<()> {
    vmm::unload()?;
    let container = container()?;
    ensure!(container.version()? == 0);
    ensure_error!(container.require(1), Error::NotLoaded);
    ensure_error!(container.policy(), Error::NotLoaded);
    ensure_error!(container.stats(), Error::NotLoaded);
    ensure_error!(
        VfioContainer::new_with_iommu_type(None, vfio_pgsize::IOMMU_TYPE),
        VfioError::VfioExtension
    );
    ensure_error!(File::open("/dev/null")?.require(1), Error::NotAContainer);
    Ok(())
}

pub fn another_backend() -> anyhow::Result<()> {
    vmm::unload()?;
    let container = Arc::new(VfioContainer::new(None)?);
    let device = VfioDevice::new(&vmm::sysfs(0)?, container.clone(), false)?;
    ensure_error!(container.require(1), Error::OtherBackend);
    ensure_error!(container.info(), Error::OtherBackend);
    ensure_error!(container.stats(), Error::OtherBackend);
    ensure_error!(container.leaves(PAGE).next().unwrap(), Error::OtherBackend);
    let error = container
        .set_state(&[Change::new(PAGE, State::Shared)])
        .unwrap_err();
    ensure!(
        error.done == 0 && matches!(error.source, Error::OtherBackend),
        "{error}"
    );
    let memory = vmm::huge_pages(2 << 20)?;
    // SAFETY: the map fails.
    let result = unsafe { container.map_stateful(PAGE, memory.as_ptr(), State::Private) };
    ensure_error!(result, Error::OtherBackend);
    drop(device);
    Ok(())
}

pub fn no_iommu() -> anyhow::Result<()> {
    vmm::load("")?;
    let container = container()?;
    ensure!(container.require(1)? >= 1);
    ensure_error!(container.require(1000), Error::TooOld { wanted: 1000, .. });
    ensure_error!(container.policy(), Error::NoIommu(_));
    ensure_error!(container.info(), Error::NoIommu(_));
    ensure_error!(container.unmap(PAGE), Error::NoIommu(_));
    let error = container
        .set_state(&[Change::new(PAGE, State::Shared)])
        .unwrap_err();
    ensure!(
        error.done == 0 && matches!(error.source, Error::NoIommu(_)),
        "{error}"
    );
    Ok(())
}

pub fn bad_arguments() -> anyhow::Result<()> {
    let vmm = Vmm::new(0)?;
    let container = &*vmm.ops;
    let set = |sizes: &str, follow| {
        let policy = Policy::new(sizes.parse().unwrap()).follow(follow);
        container.set_policy(Scope::Container, policy)
    };
    ensure_error!(set("2M", Follow::No), Error::Lacks4K(PageSizes::SIZE_2M));
    ensure_error!(set("4K,512G", Follow::No), Error::UnsupportedSizes { .. });
    ensure_error!(set("4K", Follow::SplitAndMerge), Error::CannotFollow);

    let odd = IovaRange::new(PAGE.iova, 4095);
    let policy = Policy::new(PageSizes::SIZE_4K);
    ensure_error!(
        container.set_policy(Scope::Range(odd), policy),
        Error::Misaligned(..)
    );
    ensure_error!(container.policy_at(1), Error::Misaligned(..));
    ensure_error!(container.leaves(odd).next().unwrap(), Error::Misaligned(..));
    ensure_error!(
        container.leaves(PAGE).mismatches().next().unwrap(),
        Error::NoRmp
    );
    let beyond = IovaRange::new(0u64.wrapping_sub(4096), 8192);
    ensure_error!(
        container.set_policy(Scope::Range(beyond), policy),
        Error::BeyondEnd(_)
    );

    let memory = vmm::huge_pages(2 << 20)?;
    // SAFETY: the memory is not touched, and ends with the container's mapping.
    unsafe { container.map(PAGE, memory.as_ptr())? };
    // SAFETY: the map fails.
    let result = unsafe { container.map(PAGE, memory.as_ptr()) };
    ensure_error!(result, Error::Mapped(PAGE));
    let error = container
        .set_state(&[Change::new(PAGE, State::Shared)])
        .unwrap_err();
    ensure!(matches!(error.source, Error::NotStateful), "{error}");
    let reserved = IovaRange::new(0xfee0_0000, 4096);
    // SAFETY: the map fails.
    let result = unsafe { container.map(reserved, memory.as_ptr()) };
    ensure_error!(result, Error::NotMappable(_));
    ensure!(container.unmap(PAGE)? == 4096);
    // SAFETY: the map fails, since the kernel has no memory there.
    let result = unsafe { container.map(PAGE, std::ptr::without_provenance_mut(4096)) };
    ensure_error!(result, Error::BadMemory(_));

    ensure_error!(
        container.set_eventfd(&File::open("/dev/null")?),
        Error::NotAnEventFd
    );
    ensure_error!(container.set_eventfd(&12345), Error::NotAnEventFd);
    container.set_eventfd(&EventFd::new(EFD_NONBLOCK)?)?;
    container.clear_eventfd()?;
    Ok(())
}
