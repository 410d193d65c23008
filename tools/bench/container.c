// SPDX-License-Identifier: GPL-2.0
/* Backends behind /dev/vfio/vfio: vfio_iommu_type1 and vfio_pgsize. */
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio_pgsize.h>

#include "../../samples/c/vfio_open.h"
#include "bench.h"

#define TYPE1_SWITCH	"/sys/module/vfio_iommu_type1/parameters/disable_hugepages"

static int container = -1;
static int group = -1;
static uint32_t map_flags;

static int open_group(const char *device)
{
	char path[VFIO_PATH];
	int fd = vfio_open_group(device, path);

	if (fd < 0)
		die("%s: is %s behind an IOMMU, bound to vfio-pci, and unused?", path, device);
	return fd;
}

static void set_policy(uint64_t pgsizes, bool apply)
{
	struct vfio_pgsize_policy policy = {
		.argsz = sizeof(policy),
		.flags = apply ? VFIO_PGSIZE_POLICY_APPLY : 0,
		.pgsizes = pgsizes,
	};

	if (ioctl(container, VFIO_PGSIZE_SET_POLICY, &policy))
		die("vfio_pgsize does not take the page sizes %#llx",
		    (unsigned long long)pgsizes);
}

static void container_open(const struct backend *backend, const char *device)
{
	if (backend->type == VFIO_TYPE1v2_IOMMU)
		write_number(TYPE1_SWITCH, backend->small);
	map_flags = backend->map_flags;
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container < 0)
		die("/dev/vfio/vfio");
	group = open_group(device);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		die("%s cannot join the container", device);
	if (ioctl(container, VFIO_SET_IOMMU, backend->type))
		die("%s does not take %s", backend->name, device);
	if (backend->pgsizes)
		set_policy(backend->pgsizes, false);
}

static void container_close(void)
{
	close(group);
	close(container);
}

static void container_map(void *memory, uint64_t at, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE | map_flags,
		.vaddr = (uintptr_t)memory + at,
		.iova = IOVA + at,
		.size = size,
	};

	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		die("VFIO_IOMMU_MAP_DMA");
}

static void container_unmap(uint64_t at, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = IOVA + at,
		.size = size,
	};

	if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) || unmap.size != size)
		die("VFIO_IOMMU_UNMAP_DMA: %llu bytes gone", (unsigned long long)unmap.size);
}

static void container_track(bool on)
{
	struct vfio_iommu_type1_dirty_bitmap request = {
		.argsz = sizeof(request),
		.flags = on ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START : VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
	};

	if (ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &request))
		die("VFIO_IOMMU_DIRTY_PAGES: %s", on ? "START" : "STOP");
}

static void container_read_dirty(uint64_t size, uint64_t *bitmap)
{
	struct {
		struct vfio_iommu_type1_dirty_bitmap head;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} request = {
		.head = {
			.argsz = sizeof(request),
			.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		},
		.get = {
			.iova = IOVA,
			.size = size,
			.bitmap = { .pgsize = PAGE, .size = size / PAGE / 8, .data = (void *)bitmap },
		},
	};

	if (ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &request))
		die("VFIO_IOMMU_DIRTY_PAGES: GET_BITMAP");
}

static int container_open_device(const char *device)
{
	return ioctl(group, VFIO_GROUP_GET_DEVICE_FD, device);
}

static uint64_t query(uint64_t size, uint64_t *in_4k)
{
	static struct vfio_pgsize_run runs[1024];
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.iova = IOVA,
		.size = size,
		.runs = (uintptr_t)runs,
	};
	uint64_t leaves = 0;

	*in_4k = 0;
	while (query.size) {
		query.nr = sizeof(runs) / sizeof(runs[0]);
		if (ioctl(container, VFIO_PGSIZE_QUERY, &query))
			die("VFIO_PGSIZE_QUERY");
		for (uint32_t i = 0; i < query.nr; i++) {
			leaves += runs[i].size / runs[i].pgsize;
			if (runs[i].pgsize == PAGE)
				*in_4k += runs[i].size;
		}
	}
	return leaves;
}

#define CONTAINER			\
	.open = container_open,		\
	.close = container_close,	\
	.map = container_map,		\
	.unmap = container_unmap,	\
	.track = container_track,	\
	.read_dirty = container_read_dirty, \
	.open_device = container_open_device

#define TYPE1				\
	CONTAINER,			\
	.all_dirty = true,		\
	.type = VFIO_TYPE1v2_IOMMU,	\
	.file = TYPE1_SWITCH

#define PGSIZE				\
	CONTAINER,			\
	.type = VFIO_PGSIZE_IOMMU,	\
	.file = "/sys/module/vfio_pgsize", \
	.set_policy = set_policy,	\
	.query = query

const struct backend type1_backend = { TYPE1, .name = "type1" };
const struct backend type1_small_backend = { TYPE1, .name = "type1-4k", .small = true };
const struct backend pgsize_backend = { PGSIZE, .name = "pgsize" };
const struct backend pgsize_joined_backend = {
	CONTAINER,
	.type = VFIO_PGSIZE_IOMMU,
	.file = "/sys/module/vfio_pgsize",
	.name = "pgsize-joined",
	.map_flags = VFIO_PGSIZE_MAP_JOINED,
};
const struct backend pgsize_small_backend = { PGSIZE, .name = "pgsize-4k", .pgsizes = PAGE };
