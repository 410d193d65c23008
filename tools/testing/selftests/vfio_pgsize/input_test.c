// SPDX-License-Identifier: GPL-2.0
/* Bad input to VFIO's own calls, and to file descriptors without the module's calls. */
#include <fcntl.h>

#include "input.h"

TEST_F_TIMEOUT(input, map, TIMEOUT)
{
	struct vfio_iommu_type1_dma_map good = {
		.argsz = sizeof(good),
		.flags = READ_WRITE,
		.vaddr = (uintptr_t)self->memory.va,
		.iova = GIB(2),
		.size = SIZE,
	};

	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, argsz, 0);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, argsz, sizeof(good) - 1);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, 0);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | 1 << 3);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | 1U << 31);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | VFIO_DMA_MAP_FLAG_VADDR);
	WRONG(ENOENT, VFIO_IOMMU_MAP_DMA, good, flags, VFIO_DMA_MAP_FLAG_VADDR);
	WRONG2(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, VFIO_DMA_MAP_FLAG_VADDR, iova, AT);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, vaddr, good.vaddr + 8);
	WRONG(EFAULT, VFIO_IOMMU_MAP_DMA, good, vaddr, 0);
	WRONG(EFAULT, VFIO_IOMMU_MAP_DMA, good, vaddr, 0xffff888000000000);
	WRONG(EOVERFLOW, VFIO_IOMMU_MAP_DMA, good, vaddr, EVERYWHERE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, iova, GIB(2) + 1);
	WRONG(EOVERFLOW, VFIO_IOMMU_MAP_DMA, good, iova, EVERYWHERE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, iova, 0xfee00000);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, iova, 0xfec00000);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT + SIZE - PAGE);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT - SIZE + PAGE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, size, 0);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, size, PAGE - 1);
	WRONG(EOVERFLOW, VFIO_IOMMU_MAP_DMA, good, size, ~0ULL);
	UNREADABLE(VFIO_IOMMU_MAP_DMA, good);
}

TEST_F_TIMEOUT(input, unmap, TIMEOUT)
{
	struct vfio_iommu_type1_dma_unmap good = {
		.argsz = sizeof(good),
		.iova = AT,
		.size = SIZE,
	};

	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, argsz, 0);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, argsz, sizeof(good) - 1);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, 1 << 3);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, 1U << 31);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, VFIO_DMA_UNMAP_FLAG_ALL);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
	WRONG2(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags, VFIO_DMA_UNMAP_FLAG_VADDR, size, PAGE);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags,
	      VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, flags,
	      VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, iova, AT + 1);
	WRONG(EOVERFLOW, VFIO_IOMMU_UNMAP_DMA, good, iova, EVERYWHERE);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, size, 0);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, size, SIZE - 1);
	WRONG(EINVAL, VFIO_IOMMU_UNMAP_DMA, good, size, ~0ULL);
	WRONG(EOVERFLOW, VFIO_IOMMU_UNMAP_DMA, good, size, EVERYWHERE);
	UNREADABLE(VFIO_IOMMU_UNMAP_DMA, good);
}

TEST_F_TIMEOUT(input, get_info, TIMEOUT)
{
	struct vfio_iommu_type1_info good = { .argsz = sizeof(good) };

	WRONG(EINVAL, VFIO_IOMMU_GET_INFO, good, argsz, 0);
	WRONG(EINVAL, VFIO_IOMMU_GET_INFO, good, argsz,
	      offsetof(struct vfio_iommu_type1_info, iova_pgsizes));
	UNREADABLE(VFIO_IOMMU_GET_INFO, good);
}

TEST_F_TIMEOUT(input, unknown_calls, TIMEOUT)
{
	char room[256] = { sizeof(room) - 1 };

	REFUSED(ENOTTY, self->vmm.container, _IO(VFIO_TYPE, VFIO_BASE + 99), room);
	REFUSED(ENOTTY, self->vmm.container, _IO(VFIO_TYPE, VFIO_BASE + 155), room);
	REFUSED(EINVAL, self->vmm.container, VFIO_SET_IOMMU, VFIO_PGSIZE_IOMMU);
}

/* --- no usable container ------------------------------------------------- */

TEST(no_group)
{
	struct vfio_pgsize_policy policy = { .argsz = sizeof(policy), .pgsizes = ONLY_4K };
	struct vfio_pgsize_query query = { .argsz = sizeof(query), .size = PAGE, .nr = 1 };
	char room[PAGE];
	int container, null;

	ASSERT_SOUND(module_require(""));
	container = container_open();
	ASSERT_LE(0, container);
	EXPECT_EQ(VFIO_PGSIZE_VERSION, container_extension(container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(-EINVAL, container_set_type(container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(-EINVAL, dma_map(container, AT, room, PAGE, READ_WRITE));
	EXPECT_EQ(-EINVAL, policy_of_all(container, 0, ONLY_4K));
	EXPECT_EQ(-1, ioctl(container, VFIO_PGSIZE_GET_POLICY, &policy));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(container, VFIO_PGSIZE_QUERY, &query));
	EXPECT_EQ(EINVAL, errno);
	close(container);

	null = open("/dev/null", O_RDWR);
	EXPECT_EQ(-ENOTTY, policy_of_all(null, 0, ONLY_4K));
	EXPECT_EQ(-1, ioctl(null, VFIO_PGSIZE_QUERY, &query));
	EXPECT_EQ(ENOTTY, errno);
	close(null);
	EXPECT_EQ(-EBADF, policy_of_all(null, 0, ONLY_4K));
}

/* The calls exist only on the container, not on its group or device. */
TEST_F_TIMEOUT(input, wrong_descriptor, TIMEOUT)
{
	struct vfio_pgsize_policy policy = { .argsz = sizeof(policy), .pgsizes = ONLY_4K };
	int group = self->vmm.devices[0].group, device = self->vmm.devices[0].edu.device;

	EXPECT_EQ(-1, ioctl(group, VFIO_PGSIZE_SET_POLICY, &policy));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(device, VFIO_PGSIZE_SET_POLICY, &policy));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_SOUND(state_is(&self->vmm, &self->before));
}

TEST(wrong_type)
{
	char bdf[BDF_SIZE];
	int container, group;

	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(edu_find(0, bdf));
	container = container_open();
	group = group_open(bdf);
	ASSERT_LE(0, container);
	ASSERT_LE(0, group);
	ASSERT_EQ(0, group_join(group, container));
	EXPECT_EQ(-ENODEV, container_set_type(container, 0x7fffff00));
	EXPECT_EQ(-EINVAL, policy_of_all(container, 0, ONLY_4K));
	EXPECT_EQ(0, container_set_type(container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(0, policy_of_all(container, 0, ONLY_4K));
	close(group);
	close(container);
}

TEST_PROGRAM("Bad input to VFIO's own calls: the documented error, and no change.")
