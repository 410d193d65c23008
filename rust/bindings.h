/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel declarations that the module uses and kernel::bindings lacks. bindgen reads this
 * file with the kernel's flags. bindgen_parameters lists the names to bind.
 */
#include <linux/eventfd.h>
#include <linux/generic_pt/iommu.h>
#include <linux/iommu.h>
#include <linux/vfio.h>

#include <drivers/iommu/iommu-pages.h>
#include <drivers/vfio/vfio.h>

#include <linux/vfio_pgsize.h>

#include "backend.h"
#include "container/devices.h"
#include "container/owner.h"
#include "debugfs.h"
#include "rmp/entry.h"
#include "rmp/hook.h"
#include "rmp/places.h"
#include "rmp/work.h"
#include "sys/helpers.h"
#include "sys/parameters.h"
#include "sys/tracing.h"
#include "sys/warning.h"
#ifdef VFIO_PGSIZE_TEST
#include "sys/testing.h"
#endif

/* Constants that the headers define through other macros, which bindgen does not follow. */
const u32 RUST_CONST_HELPER_VFIO_CHECK_EXTENSION = VFIO_CHECK_EXTENSION;
const u32 RUST_CONST_HELPER_VFIO_IOMMU_GET_INFO = VFIO_IOMMU_GET_INFO;
const u32 RUST_CONST_HELPER_VFIO_IOMMU_MAP_DMA = VFIO_IOMMU_MAP_DMA;
const u32 RUST_CONST_HELPER_VFIO_IOMMU_UNMAP_DMA = VFIO_IOMMU_UNMAP_DMA;
const u32 RUST_CONST_HELPER_VFIO_IOMMU_DIRTY_PAGES = VFIO_IOMMU_DIRTY_PAGES;
const u32 RUST_CONST_HELPER_VFIO_PGSIZE_GET_POLICY = VFIO_PGSIZE_GET_POLICY;
const u32 RUST_CONST_HELPER_VFIO_PGSIZE_SET_POLICY = VFIO_PGSIZE_SET_POLICY;
const u32 RUST_CONST_HELPER_VFIO_PGSIZE_QUERY = VFIO_PGSIZE_QUERY;
const u32 RUST_CONST_HELPER_VFIO_PGSIZE_GET_STATS = VFIO_PGSIZE_GET_STATS;
const u32 RUST_CONST_HELPER_VFIO_PGSIZE_SET_EVENT = VFIO_PGSIZE_SET_EVENT;
const u32 RUST_CONST_HELPER_VFIO_PGSIZE_SET_STATE = VFIO_PGSIZE_SET_STATE;

/* From unnamed enumerations. */
const u32 RUST_CONST_HELPER_PT_FEAT_DMA_INCOHERENT = PT_FEAT_DMA_INCOHERENT;
const u32 RUST_CONST_HELPER_PT_FEAT_AMDV1_ENCRYPT_TABLES = PT_FEAT_AMDV1_ENCRYPT_TABLES;
const u32 RUST_CONST_HELPER_IOMMU_HWPT_ALLOC_DIRTY_TRACKING = IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
const u32 RUST_CONST_HELPER_PT_FEAT_AMDV1_FORCE_COHERENCE = PT_FEAT_AMDV1_FORCE_COHERENCE;
