// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "container.h"
#include "dirty.h"
#include "units.h"

struct get {
	struct vfio_iommu_type1_dirty_bitmap head;
	struct vfio_iommu_type1_dirty_bitmap_get get;
};

struct unmap {
	struct vfio_iommu_type1_dma_unmap head;
	struct vfio_bitmap bitmap;
};

static int switch_to(int container, uint32_t flags)
{
	struct vfio_iommu_type1_dirty_bitmap request = {
		.argsz = sizeof(request),
		.flags = flags,
	};

	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &request) ? -errno : 0;
}

int dirty_start(int container)
{
	return switch_to(container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START);
}

int dirty_stop(int container)
{
	return switch_to(container, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
}

int dirty_get_with(int container, uint32_t argsz, uint64_t iova, uint64_t size, uint64_t pgsize,
		   uint64_t bytes, const void *bitmap)
{
	struct get request = {
		.head = {
			.argsz = argsz,
			.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		},
		.get = {
			.iova = iova,
			.size = size,
			.bitmap = { .pgsize = pgsize, .size = bytes, .data = (void *)bitmap },
		},
	};

	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &request) ? -errno : 0;
}

int dirty_get(int container, uint64_t iova, uint64_t size, uint64_t *bitmap)
{
	return dirty_get_with(container, sizeof(struct get), iova, size, PAGE, DIRTY_BYTES(size),
			      bitmap);
}

int dirty_unmap_with(int container, uint32_t argsz, uint32_t flags, uint64_t iova, uint64_t *size,
		     uint64_t pgsize, uint64_t bytes, const void *bitmap)
{
	struct unmap request = {
		.head = {
			.argsz = argsz,
			.flags = flags,
			.iova = iova,
			.size = *size,
		},
		.bitmap = { .pgsize = pgsize, .size = bytes, .data = (void *)bitmap },
	};
	int ret = ioctl(container, VFIO_IOMMU_UNMAP_DMA, &request) ? -errno : 0;

	*size = request.head.size;
	return ret;
}

int dirty_unmap(int container, uint64_t iova, uint64_t *size, uint64_t *bitmap)
{
	return dirty_unmap_with(container, sizeof(struct unmap),
				VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, iova, size, PAGE,
				DIRTY_BYTES(*size), bitmap);
}

static bool is_in(uint64_t page, const struct dirty_run *runs)
{
	for (; runs->pages; runs++) {
		if (page >= runs->first && page - runs->first < runs->pages)
			return true;
	}
	return false;
}

problem dirty_bits_are(const uint64_t *bitmap, uint64_t size, const struct dirty_run *runs)
{
	for (uint64_t page = 0; page < DIRTY_BYTES(size) * 8; page++) {
		bool found = bitmap[page / 64] >> page % 64 & 1;
		bool wanted = page < size / PAGE && is_in(page, runs);

		if (found != wanted)
			return problem_is("page %#lx of %#llx is %s", page, size / PAGE,
					  found ? "dirty" : "clean");
	}
	return NULL;
}

problem dirty_is(int container, uint64_t iova, uint64_t size, const struct dirty_run *runs)
{
	uint64_t *bitmap = calloc(1, DIRTY_BYTES(size));
	problem wrong;
	int ret;

	if (!bitmap)
		return problem_is("no memory for a bitmap");
	ret = dirty_get(container, iova, size, bitmap);
	wrong = ret ? problem_is("no bitmap of %#lx bytes at %#lx: %s", size, iova, strerror(-ret)) :
		      dirty_bits_are(bitmap, size, runs);
	free(bitmap);
	return wrong;
}

problem dirty_store(struct edu *edu, uint64_t iova, const struct dirty_run *runs)
{
	for (; runs->pages; runs++) {
		for (uint64_t page = 0; page < runs->pages; page++) {
			problem wrong = edu_store(edu, iova + (runs->first + page) * PAGE, PAGE);

			if (wrong)
				return wrong;
		}
	}
	return NULL;
}
