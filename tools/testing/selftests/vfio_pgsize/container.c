// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../../../samples/c/vfio_open.h"
#include "container.h"

static int result(int ret)
{
	return ret < 0 ? -errno : ret;
}

int container_open(void)
{
	return result(open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
}

int container_set_type(int container, unsigned long type)
{
	return result(ioctl(container, VFIO_SET_IOMMU, type));
}

int container_extension(int container, unsigned long extension)
{
	return result(ioctl(container, VFIO_CHECK_EXTENSION, extension));
}

int group_open_at(const char *device)
{
	char path[VFIO_PATH];

	return result(vfio_open_group_of(device, path));
}

int group_open(const char *bdf)
{
	char path[VFIO_PATH];

	return result(vfio_open_group(bdf, path));
}

int group_join(int group, int container)
{
	return result(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
}

int group_leave(int group)
{
	return result(ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
}

int group_device(int group, const char *bdf)
{
	return result(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf));
}

int dma_map(int container, uint64_t iova, const void *va, uint64_t size, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)va,
		.iova = iova,
		.size = size,
	};

	return result(ioctl(container, VFIO_IOMMU_MAP_DMA, &map));
}

int dma_unmap(int container, uint64_t iova, uint64_t *size, uint32_t flags)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = flags,
		.iova = iova,
		.size = *size,
	};
	int ret = result(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap));

	*size = unmap.size;
	return ret;
}

problem dma_unmap_exactly(int container, uint64_t iova, uint64_t size)
{
	uint64_t unmapped = size;
	int ret = dma_unmap(container, iova, &unmapped, 0);

	if (ret)
		return problem_is("unmapping %#lx bytes at %#lx: %s", size, iova, strerror(-ret));
	if (unmapped != size)
		return problem_is("unmapping %#lx bytes at %#lx unmapped %#lx", size, iova, unmapped);
	return NULL;
}

int policy_set(int container, uint32_t flags, uint64_t iova, uint64_t size, uint64_t pgsizes)
{
	struct vfio_pgsize_policy policy = {
		.argsz = sizeof(policy),
		.flags = flags,
		.iova = iova,
		.size = size,
		.pgsizes = pgsizes,
	};

	return result(ioctl(container, VFIO_PGSIZE_SET_POLICY, &policy));
}

int policy_of_all(int container, uint32_t flags, uint64_t pgsizes)
{
	return policy_set(container, flags, 0, 0, pgsizes);
}

int policy_get(int container, struct vfio_pgsize_policy *policy, uint32_t flags, uint64_t iova)
{
	*policy = (struct vfio_pgsize_policy) {
		.argsz = sizeof(*policy),
		.flags = flags,
		.iova = iova,
	};
	return result(ioctl(container, VFIO_PGSIZE_GET_POLICY, policy));
}

int event_set(int container, int fd)
{
	struct vfio_pgsize_event event = { .argsz = sizeof(event), .fd = fd };

	return result(ioctl(container, VFIO_PGSIZE_SET_EVENT, &event));
}

int set_state(int container, const struct vfio_pgsize_state *changes, uint32_t *nr)
{
	struct vfio_pgsize_set_state set = {
		.argsz = sizeof(set),
		.nr = *nr,
		.changes = (uintptr_t)changes,
	};
	int ret = result(ioctl(container, VFIO_PGSIZE_SET_STATE, &set));

	*nr = set.nr;
	return ret;
}

int get_stats(int container, struct vfio_pgsize_stats *stats)
{
	*stats = (struct vfio_pgsize_stats){ .argsz = sizeof(*stats) };
	return result(ioctl(container, VFIO_PGSIZE_GET_STATS, stats));
}

static problem take_capability(struct info *info, const void *at, uint32_t room)
{
	const struct vfio_info_cap_header *header = at;
	const struct vfio_iommu_type1_info_cap_iova_range *ranges = at;
	const struct vfio_iommu_type1_info_cap_migration *migration = at;
	const struct vfio_iommu_type1_info_dma_avail *avail = at;
	size_t size;

	switch (header->id) {
	case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
		size = ranges->nr_iovas * sizeof(info->ranges[0]);
		if (size > sizeof(info->ranges) || sizeof(*ranges) + size > room)
			return problem_is("%u IOVA ranges are too many", ranges->nr_iovas);
		info->nr_ranges = ranges->nr_iovas;
		memcpy(info->ranges, ranges->iova_ranges, size);
		return NULL;
	case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION:
		info->migration_pgsizes = migration->pgsize_bitmap;
		info->max_dirty_bitmap = migration->max_dirty_bitmap_size;
		return NULL;
	case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
		info->dma_avail = avail->avail;
		return NULL;
	case VFIO_PGSIZE_INFO_CAP:
		if (sizeof(info->policy) > room)
			return problem_is("the policy capability is cut short");
		memcpy(&info->policy, at, sizeof(info->policy));
		return NULL;
	}
	return problem_is("a capability of unknown id %#x", header->id);
}

problem container_info(int container, struct info *info)
{
	struct {
		struct vfio_iommu_type1_info info;
		char capabilities[4096];
	} answer = { .info = { .argsz = sizeof(answer.info) } };
	uint32_t at, needed;

	memset(info, 0, sizeof(*info));
	info->dma_avail = -1;
	if (ioctl(container, VFIO_IOMMU_GET_INFO, &answer.info))
		return problem_is("VFIO_IOMMU_GET_INFO: %m");
	needed = answer.info.argsz;
	if (needed <= sizeof(answer.info) || needed > sizeof(answer))
		return problem_is("VFIO_IOMMU_GET_INFO wants %u bytes", needed);
	if (answer.info.cap_offset)
		return problem_is("VFIO_IOMMU_GET_INFO gives an offset to capabilities that did not fit");
	if (ioctl(container, VFIO_IOMMU_GET_INFO, &answer.info))
		return problem_is("VFIO_IOMMU_GET_INFO with room for capabilities: %m");
	info->flags = answer.info.flags;
	info->pgsizes = answer.info.iova_pgsizes;
	at = answer.info.cap_offset;
	while (at) {
		struct vfio_info_cap_header *header = (void *)&answer + at;
		problem wrong;

		if (at + sizeof(*header) > needed)
			return problem_is("a capability at %#x, beyond the end", at);
		wrong = take_capability(info, header, needed - at);
		if (wrong)
			return wrong;
		if (header->next && header->next <= at)
			return problem_is("the capabilities' chain goes back");
		at = header->next;
	}
	return NULL;
}
