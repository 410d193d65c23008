/* SPDX-License-Identifier: GPL-2.0 */
/* Page states of memory that each test chooses: a VMM with no mapping yet. */
#ifndef VFIO_PGSIZE_PAGE_MEMORY_H
#define VFIO_PGSIZE_PAGE_MEMORY_H

#include "harness.h"
#include "module.h"
#include "pages.h"
#include "units.h"

#define AT	GIB(4)
#define SIZE	MIB(8)

FIXTURE(page_memory) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
};

FIXTURE_SETUP(page_memory)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(page_memory)
{
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

#endif
