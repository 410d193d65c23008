// SPDX-License-Identifier: GPL-2.0
/*
 * A container that has no IOMMU: devices that are software pin pages of mappings that
 * are known and not pinned, and are told before they go. type1 gives the same answers.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include "alone.h"

/* Nothing is pinned for what is mapped, nor looked at. */
TEST_F_TIMEOUT(alone, mapping_is_only_known, TIMEOUT)
{
	struct info info;

	ROSE(0, 0);
	ASSERT_SOUND(container_info(self->vmm.container, &info));
	EXPECT_EQ(0, info.nr_ranges);
	EXPECT_EQ(~(PAGE - 1), info.pgsizes);
	EXPECT_EQ(UINT16_MAX - 2, info.dma_avail);
	EXPECT_EQ(1, container_extension(self->vmm.container, VFIO_DMA_CC_IOMMU));
	/* Every address is as good as another. */
	EXPECT_EQ(0, MAP(0xfee00000, self->memory.va, PAGE, READ_WRITE));
	EXPECT_EQ(0, MAP(EVERYWHERE, self->memory.va, PAGE, READ_WRITE));
	EXPECT_EQ(0, MAP(0, NULL, PAGE, READ));
	EXPECT_EQ(-EEXIST, MAP(AT + PAGE, self->memory.va, PAGE, READ_WRITE));
	EXPECT_EQ(-EINVAL, MAP(GIB(2), self->memory.va, PAGE, 0));
	EXPECT_EQ(-EINVAL, UNMAP(AT, SIZE / 4, 0) < 0 ? -EINVAL :
			   variant->type == VFIO_PGSIZE_IOMMU ? -EINVAL : 0);
	EXPECT_EQ(PAGE, UNMAP(0xfee00000, PAGE, 0));
	EXPECT_EQ(2 * PAGE + (variant->type == VFIO_PGSIZE_IOMMU ? SIZE * 3 / 4 : SIZE),
		  UNMAP(0, 0, VFIO_DMA_UNMAP_FLAG_ALL));
	ROSE(0, 0);
	ASSERT_SOUND(container_info(self->vmm.container, &info));
	EXPECT_EQ(UINT16_MAX, info.dma_avail);
}

TEST_F_TIMEOUT(alone, pins, TIMEOUT)
{
	uint8_t *at = self->memory.va + SIZE / 2 - PAGE;
	uint64_t pfns[4], phys[4];
	char bytes[16];

	/* From one mapping to the next. */
	ASSERT_EQ(0, emulated_pin(self->device, AT + SIZE / 2 - PAGE, 4, RW, pfns));
	ASSERT_SOUND(memory_phys(at, 4, phys));
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(phys[i], pfns[i] * PAGE);
	ROSE(4, 4);
	/* It is the same memory. */
	strcpy((char *)at + PAGE, "from the guest");
	EXPECT_EQ(0, emulated_touch(self->device, AT + SIZE / 2, bytes, sizeof(bytes), 0));
	EXPECT_STREQ("from the guest", bytes);
	strcpy(bytes, "to the guest");
	EXPECT_EQ(0, emulated_touch(self->device, AT + SIZE / 2 + 100, bytes, sizeof(bytes),
				    EMULATED_WRITE));
	EXPECT_STREQ("to the guest", (char *)at + PAGE + 100);
	/* A page that is pinned is so once for the process, whoever pins it once more. */
	EXPECT_EQ(0, emulated_pin(self->device, AT + SIZE / 2, 2, EMULATED_READ, pfns));
	EXPECT_EQ(phys[1], pfns[0] * PAGE);
	EXPECT_EQ(0, emulated_pin(&self->vmm.devices[1], AT + SIZE / 2, 5, RW, NULL));
	ROSE(6, 6);
	EXPECT_EQ(0, emulated_unpin(self->device, AT + SIZE / 2, 2));
	ROSE(6, 6);
	EXPECT_EQ(0, emulated_unpin(&self->vmm.devices[1], AT + SIZE / 2, 5));
	ROSE(4, 4);
	EXPECT_EQ(0, emulated_unpin(self->device, AT + SIZE / 2 - PAGE, 2));
	ROSE(2, 2);
	EXPECT_EQ(0, emulated_unpin(self->device, AT + SIZE / 2 + PAGE, 2));
	ROSE(0, 0);
	EXPECT_SOUND(emulated_was_told(self->device, 0, 0, 0, 0));
}

/* What is pinned is what was there first, until it is unpinned. */
TEST_F_TIMEOUT(alone, memory_that_is_replaced, TIMEOUT)
{
	uint64_t first, second;

	ASSERT_EQ(0, emulated_pin(self->device, AT, 1, RW, &first));
	ASSERT_EQ(self->memory.va, mmap(self->memory.va, PAGE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(0, emulated_pin(self->device, AT, 1, RW, &second));
	EXPECT_EQ(first, second);
	ASSERT_EQ(0, emulated_unpin(self->device, AT, 1));
	ASSERT_EQ(0, emulated_unpin(self->device, AT, 1));
	ASSERT_EQ(0, emulated_pin(self->device, AT, 1, RW, &second));
	ASSERT_EQ(0, emulated_unpin(self->device, AT, 1));
	EXPECT_NE(first, second);
}

/* Nothing is pinned or charged of what is refused. */
TEST_F_TIMEOUT(alone, pins_that_are_refused, TIMEOUT)
{
	struct info info;

	EXPECT_EQ(-EINVAL, emulated_pin(self->device, AT, 0, RW, NULL));
	EXPECT_EQ(-E2BIG, emulated_pin(self->device, AT, 513, RW, NULL));
	EXPECT_EQ(-EINVAL, emulated_pin(self->device, GIB(2), 1, RW, NULL));
	EXPECT_EQ(-EINVAL, emulated_pin(self->device, AT - PAGE, 2, RW, NULL));
	EXPECT_EQ(-EINVAL, emulated_pin(self->device, AT + SIZE - PAGE, 2, RW, NULL));
	EXPECT_EQ(-EOVERFLOW, emulated_pin(self->device, EVERYWHERE, 2, RW, NULL));
	EXPECT_EQ(-EPERM, emulated_pin(self->device, AT, 1, RW | 1 << 3, NULL));
	ASSERT_EQ(0, MAP(GIB(2), self->memory.va, PAGE, READ));
	ASSERT_EQ(0, MAP(GIB(2) + PAGE, self->memory.va, PAGE, WRITE));
	EXPECT_EQ(-EPERM, emulated_pin(self->device, GIB(2), 1, RW, NULL));
	EXPECT_EQ(-EPERM, emulated_pin(self->device, GIB(2), 1, EMULATED_WRITE, NULL));
	EXPECT_EQ(-EPERM, emulated_pin(self->device, GIB(2) + PAGE, 1, EMULATED_READ, NULL));
	EXPECT_EQ(-EPERM, emulated_pin(self->device, GIB(2), 2, EMULATED_READ, NULL));
	ROSE(0, 0);
	EXPECT_EQ(0, emulated_pin(self->device, GIB(2), 1, EMULATED_READ, NULL));
	EXPECT_EQ(0, emulated_pin(self->device, GIB(2) + PAGE, 1, EMULATED_WRITE, NULL));
	ROSE(2, 2);
	/* Memory that is not there. */
	ASSERT_EQ(0, munmap(self->memory.va + 8 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, emulated_pin(self->device, AT + 4 * PAGE, 6, RW, NULL));
	ROSE(2, 2);
	ASSERT_EQ(0, mprotect(self->memory.va + 7 * PAGE, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, emulated_pin(self->device, AT + 7 * PAGE, 1, EMULATED_READ, NULL));
	ROSE(2, 2);
	EXPECT_EQ(0, emulated_pin(self->device, AT + 4 * PAGE, 3, RW, NULL));
	/* Of those that are pinned one is so no more. */
	EXPECT_EQ(-EFAULT, emulated_pin(self->device, AT + 4 * PAGE, 6, RW, NULL));
	ROSE(5, 5);
	EXPECT_EQ(0, emulated_unpin(self->device, AT + 4 * PAGE, 3));
	EXPECT_EQ(0, emulated_unpin(self->device, GIB(2), 2));
	ROSE(0, 0);
	ASSERT_SOUND(container_info(self->vmm.container, &info));
	EXPECT_EQ(UINT16_MAX - 4, info.dma_avail);
}

TEST_F_TIMEOUT(alone, no_more_than_the_limit, TIMEOUT)
{
	/* What counts is who mapped it. */
	ASSERT_SOUND(account_limit(self->vmm.before.locked + 3));
	ASSERT_EQ(0, MAP(GIB(2), self->memory.va, SIZE, READ_WRITE));
	EXPECT_EQ(-ENOMEM, emulated_pin(self->device, GIB(2), 4, RW, NULL));
	ROSE(0, 0);
	EXPECT_EQ(0, emulated_pin(self->device, GIB(2), 3, RW, NULL));
	ROSE(3, 3);
	EXPECT_EQ(-ENOMEM, emulated_pin(self->device, GIB(2) + 2 * PAGE, 2, RW, NULL));
	ROSE(3, 3);
	/* Those are charged already. */
	EXPECT_EQ(0, emulated_pin(self->device, GIB(2), 3, RW, NULL));
	ROSE(3, 3);
	EXPECT_EQ(0, emulated_unpin(self->device, GIB(2), 3));
	EXPECT_EQ(0, emulated_unpin(self->device, GIB(2), 3));
	ROSE(0, 0);
}

/* A page is pinned, and unpinned, by the address of any of its bytes. */
TEST_F_TIMEOUT(alone, within_pages, TIMEOUT)
{
	uint64_t phys, pfns[2];

	if (!variant->parameters)
		SKIP(return, "for type1 each address of a page is another page");
	ASSERT_SOUND(memory_phys(self->memory.va, 1, &phys));
	ASSERT_EQ(0, emulated_pin(self->device, AT + 5, 2, RW, pfns));
	EXPECT_EQ(phys, pfns[0] * PAGE);
	ASSERT_EQ(0, emulated_pin(self->device, AT + PAGE - 1, 1, RW, pfns));
	EXPECT_EQ(phys, pfns[0] * PAGE);
	ROSE(2, 2);
	EXPECT_EQ(0, emulated_unpin(self->device, AT, 2));
	ROSE(1, 1);
	EXPECT_EQ(0, emulated_unpin(self->device, AT, 1));
	ROSE(0, 0);
}

/* --- they are told ------------------------------------------------------------------- */

TEST_F_TIMEOUT(alone, told_of_unmap, TIMEOUT)
{
	struct emulated *other = &self->vmm.devices[1];

	ASSERT_EQ(0, emulated_pin(self->device, AT + PAGE, 2, RW, NULL));
	ASSERT_EQ(0, emulated_pin(other, AT + 2 * PAGE, 2, RW, NULL));
	/* Of what nobody has pinned nobody is told; and not of what is refused. */
	EXPECT_EQ(SIZE / 2, UNMAP(AT + SIZE / 2, SIZE / 2, 0));
	if (variant->type != VFIO_PGSIZE_IOMMU)
		EXPECT_EQ(-EINVAL, UNMAP(AT, 2 * PAGE, 0));
	EXPECT_EQ(-EINVAL, UNMAP(AT, SIZE / 2, VFIO_DMA_UNMAP_FLAG_ALL));
	EXPECT_SOUND(emulated_was_told(self->device, 0, 0, 0, 2));
	ROSE(3, 3);
	EXPECT_EQ(SIZE / 2, UNMAP(AT, SIZE / 2, 0));
	EXPECT_SOUND(emulated_was_told(self->device, 1, AT, SIZE / 2, 0));
	EXPECT_SOUND(emulated_was_told(other, 1, AT, SIZE / 2, 0));
	ROSE(0, 0);
	/* Of all: mapping by mapping. */
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, MAP(AT + i * SIZE, self->memory.va, SIZE, READ_WRITE));
		ASSERT_EQ(0, emulated_pin(other, AT + i * SIZE, 3, RW, NULL));
	}
	ROSE(9, 9);
	EXPECT_EQ(3 * SIZE, UNMAP(0, 0, VFIO_DMA_UNMAP_FLAG_ALL));
	EXPECT_SOUND(emulated_was_told(other, 3, AT + 2 * SIZE, SIZE, 0));
	EXPECT_SOUND(emulated_was_told(self->device, 3, AT + 2 * SIZE, SIZE, 0));
	ROSE(0, 0);
}

TEST_F_TIMEOUT(alone, closed_and_left, TIMEOUT)
{
	ASSERT_EQ(0, emulated_pin(self->device, AT, 4, RW, NULL));
	ASSERT_EQ(0, emulated_pin(&self->vmm.devices[1], AT + 2 * PAGE, 4, RW, NULL));
	ROSE(6, 6);
	emulated_close(self->device);
	ROSE(4, 4);
	/* Its group comes back, and once more is an error. */
	ASSERT_EQ(0, emulated_join(self->device, self->vmm.container, 0));
	EXPECT_EQ(-EINVAL, group_join(self->device->group, self->vmm.container));
	ASSERT_SOUND(emulated_open(self->device, 0));
	EXPECT_EQ(0, emulated_pin(self->device, AT + 5 * PAGE, 1, RW, NULL));
	ROSE(4, 4);
}

static void be_killed(unsigned long type, const struct memory *memory, int ready)
{
	struct alone vmm;

	if (alone_open(&vmm, type, 2) ||
	    dma_map(vmm.container, AT, memory->va, memory->size, READ_WRITE) ||
	    emulated_pin(&vmm.devices[0], AT, 100, RW, NULL) || write(ready, "r", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

TEST_F_TIMEOUT(alone, killed, TIMEOUT)
{
	int ready[2], status;
	pid_t child;
	char byte;

	emulated_close(&self->vmm.devices[0]);
	emulated_close(&self->vmm.devices[1]);
	ASSERT_EQ(0, pipe(ready));
	child = fork();
	if (!child)
		be_killed(variant->type, &self->memory, ready[1]);
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	close(ready[0]);
	ROSE(0, 100);
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_SOUND(account_settles(&self->vmm.before));
}

/* Their addresses can not be taken away: they may be used at any time. */
TEST_F_TIMEOUT(alone, no_update_of_vaddr, TIMEOUT)
{
	EXPECT_EQ(0, container_extension(self->vmm.container, VFIO_UPDATE_VADDR));
	EXPECT_EQ(-EBUSY, UNMAP(AT, SIZE, VFIO_DMA_UNMAP_FLAG_VADDR));
	EXPECT_EQ(-EBUSY, UNMAP(AT + 1, SIZE, VFIO_DMA_UNMAP_FLAG_VADDR));
	EXPECT_EQ(-EBUSY, UNMAP(0, 0, VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL));
	EXPECT_EQ(-EINVAL, MAP(AT, self->memory.va, SIZE / 2, VFIO_DMA_MAP_FLAG_VADDR));
	EXPECT_EQ(0, emulated_pin(self->device, AT, 1, RW, NULL));
}

TEST_PROGRAM("Devices that are software, in a container without an IOMMU, as with type1.")
