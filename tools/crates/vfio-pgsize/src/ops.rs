// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `VfioOps` for the devices of vfio-ioctls.

use std::any::Any;
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::sync::Arc;

use vfio_ioctls::VfioContainer;
use vfio_ioctls::VfioError;
use vfio_ioctls::VfioOps;
use vmm_sys_util::errno::Error as SysError;

use crate::container::Container;
use crate::range::IovaRange;
use crate::state::State;

/// A `VfioOps` for `VfioDevice`: the memory that a VMM maps through it is mapped as stateful, all
/// pages in one state at first.
///
/// A VMM passes it wherever it passes an `Arc<dyn VfioOps>`, and has the calls of [`Container`] on
/// it, too. The container is of [`IOMMU_TYPE`](crate::IOMMU_TYPE), for which vfio-ioctls 0.10 needs
/// the patch beside this crate.
///
/// ```no_run
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use vfio_ioctls::VfioContainer;
/// use vfio_ioctls::VfioDevice;
/// use vfio_pgsize::Container;
/// use vfio_pgsize::PgsizeOps;
/// use vfio_pgsize::State;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #[cfg(any())]
/// let container = VfioContainer::new_with_iommu_type(None, vfio_pgsize::IOMMU_TYPE)?;
/// # let container = VfioContainer::new(None)?;
/// let ops = Arc::new(PgsizeOps::new(Arc::new(container), State::Private));
/// let device = VfioDevice::new(
///     Path::new("/sys/bus/pci/devices/0000:00:03.0"),
///     ops.clone(),
///     false,
/// )?;
/// println!("{:?}", ops.info()?);
/// # drop(device);
/// # Ok(())
/// # }
/// ```
pub struct PgsizeOps {
    container: Arc<VfioContainer>,
    state: State,
}

impl PgsizeOps {
    /// Maps memory in this container, all pages in this state at first: private for a guest that
    /// begins with private memory.
    pub fn new(container: Arc<VfioContainer>, state: State) -> Self {
        PgsizeOps { container, state }
    }

    /// The container. What is mapped by its own methods is not stateful.
    pub fn container(&self) -> &Arc<VfioContainer> {
        &self.container
    }
}

impl AsRawFd for PgsizeOps {
    fn as_raw_fd(&self) -> RawFd {
        self.container.as_raw_fd()
    }
}

impl VfioOps for PgsizeOps {
    unsafe fn vfio_dma_map(
        &self,
        iova: u64,
        size: usize,
        user_addr: *mut u8,
    ) -> Result<(), VfioError> {
        let range = IovaRange::new(iova, size as u64);
        // SAFETY: the caller keeps the rules of `VfioOps::vfio_dma_map`, which are those of `map`.
        unsafe { self.map_stateful(range, user_addr, self.state) }
            .map_err(|error| VfioError::IommuDmaMap(SysError::new(error.errno())))
    }

    fn vfio_dma_unmap(&self, iova: u64, size: usize) -> Result<(), VfioError> {
        self.container.vfio_dma_unmap(iova, size)
    }

    fn as_any(&self) -> &dyn Any {
        // VfioDevice looks for a VfioContainer.
        self.container.as_any()
    }
}
