// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO_UPDATE_VADDR: what it takes and what it refuses, who is charged, and that
 * devices do not notice. type1 gives the same answers.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "backends.h"
#include "fail_nth.h"
#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(4)
#define PAGES	((long)(SIZE / PAGE))

#define MAP_VADDR	VFIO_DMA_MAP_FLAG_VADDR
#define UNMAP_VADDR	VFIO_DMA_UNMAP_FLAG_VADDR
#define ALL		VFIO_DMA_UNMAP_FLAG_ALL

/* Two mappings of SIZE, one behind the other, and the same memory at another address. */
FIXTURE(vaddr) {
	struct vmm vmm;
	struct memory memory;
	uint8_t *old;
	uint8_t *new;
};

BACKENDS(vaddr);

FIXTURE_SETUP(vaddr)
{
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, MEMFD, 2 * SIZE));
	self->old = self->memory.va;
	/* Of shared memory, old length 0 duplicates. */
	self->new = mremap(self->old, 0, 2 * SIZE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, self->new);
	ASSERT_EQ(0, madvise(self->new, 2 * SIZE, MADV_POPULATE_WRITE));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->old, SIZE, READ_WRITE));
	ASSERT_SOUND(vmm_map(&self->vmm, AT + SIZE, self->old + SIZE, SIZE, READ_WRITE));
}

FIXTURE_TEARDOWN(vaddr)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	munmap(self->new, 2 * SIZE);
	memory_free(&self->memory);
}

/* What an unmap answers; `bytes` tells how much that was. */
static int unmap(struct vmm *vmm, uint64_t iova, uint64_t size, uint32_t flags, uint64_t *bytes)
{
	*bytes = size;
	return dma_unmap(vmm->container, iova, bytes, flags);
}

#define UNMAP(iova, size, flags) ({						\
	uint64_t __bytes;							\
	int __ret = unmap(&self->vmm, iova, size, flags, &__bytes);		\
										\
	__ret ? __ret : (long)__bytes;						\
})

#define UPDATE(iova, va, size)	dma_map(self->vmm.container, iova, va, size, MAP_VADDR)

/* The mappings, leaves and accounts are what they were made. */
static problem is_untouched(struct vmm *vmm, uint8_t *va)
{
	struct leaves expected = {};
	problem wrong = account_rose(&vmm->before, 2 * PAGES, 2 * PAGES);

	for (int i = 0; !wrong && i < 2; i++)
		wrong = leaves_tile(&expected, AT + i * SIZE, va + i * SIZE, SIZE, vmm->sizes,
				    READ_WRITE);
	if (!wrong)
		wrong = vmm_has_leaves(vmm, &expected);
	leaves_free(&expected);
	return wrong ? wrong : vmm_moves_bytes(vmm, 0, AT, va, 2 * SIZE);
}

TEST_F_TIMEOUT(vaddr, extension, TIMEOUT)
{
	int container = container_open();

	EXPECT_EQ(1, container_extension(self->vmm.container, VFIO_UPDATE_VADDR));
	/* Of one that has no IOMMU yet nobody knows. */
	ASSERT_LE(0, container);
	EXPECT_EQ(0, container_extension(container, VFIO_UPDATE_VADDR));
	close(container);
}

TEST_F_TIMEOUT(vaddr, moves, TIMEOUT)
{
	EXPECT_EQ(2 * SIZE, UNMAP(AT, 2 * SIZE, UNMAP_VADDR));
	EXPECT_SOUND(is_untouched(&self->vmm, self->old));
	EXPECT_EQ(0, UPDATE(AT, self->new, SIZE));
	EXPECT_EQ(0, UPDATE(AT + SIZE, self->new + SIZE, SIZE));
	EXPECT_SOUND(is_untouched(&self->vmm, self->new));
	/* And back, with ALL. */
	EXPECT_EQ(2 * SIZE, UNMAP(0, 0, UNMAP_VADDR | ALL));
	EXPECT_EQ(0, UPDATE(AT, self->old, SIZE));
	EXPECT_EQ(0, UPDATE(AT + SIZE, self->old + SIZE, SIZE));
	EXPECT_SOUND(is_untouched(&self->vmm, self->old));
	EXPECT_EQ(2 * SIZE, UNMAP(AT, 2 * SIZE, 0));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

TEST_F_TIMEOUT(vaddr, refused, TIMEOUT)
{
	/* Nothing is there: that is no error. */
	EXPECT_EQ(0, UNMAP(GIB(8), SIZE, UNMAP_VADDR));
	/* Parts of mappings. */
	EXPECT_EQ(-EINVAL, UNMAP(AT, PAGE, UNMAP_VADDR));
	EXPECT_EQ(-EINVAL, UNMAP(AT + PAGE, SIZE - PAGE, UNMAP_VADDR));
	EXPECT_EQ(-EINVAL, UNMAP(AT, SIZE + PAGE, UNMAP_VADDR));
	EXPECT_EQ(-EINVAL, UNMAP(AT, 0, UNMAP_VADDR));
	EXPECT_EQ(-EINVAL, UNMAP(AT + 1, SIZE, UNMAP_VADDR));
	EXPECT_EQ(-EINVAL, UNMAP(AT, SIZE, UNMAP_VADDR | ALL));
	EXPECT_EQ(-EOVERFLOW, UNMAP(EVERYWHERE, 2 * PAGE, UNMAP_VADDR));
	EXPECT_EQ(-EINVAL, UNMAP(AT, SIZE, UNMAP_VADDR | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP));
	/* No mapping has lost its address by those. */
	EXPECT_EQ(-EINVAL, UPDATE(AT, self->new, SIZE));
	EXPECT_EQ(-EINVAL, UPDATE(AT + SIZE, self->new + SIZE, SIZE));

	EXPECT_EQ(SIZE, UNMAP(AT + SIZE, SIZE, UNMAP_VADDR));
	/* One of the two has none already: that leaves the other as it is. */
	EXPECT_EQ(-EINVAL, UNMAP(AT, 2 * SIZE, UNMAP_VADDR));
	EXPECT_EQ(-EINVAL, UNMAP(0, 0, UNMAP_VADDR | ALL));
	EXPECT_EQ(-EINVAL, UPDATE(AT, self->new, SIZE));
	EXPECT_EQ(-EINVAL, UNMAP(AT + SIZE, SIZE, UNMAP_VADDR));

	EXPECT_EQ(-ENOENT, UPDATE(GIB(8), self->new, SIZE));
	EXPECT_EQ(-EINVAL, UPDATE(AT + SIZE, self->new + SIZE, PAGE));
	EXPECT_EQ(-EINVAL, UPDATE(AT + SIZE + PAGE, self->new, SIZE - PAGE));
	EXPECT_EQ(-EINVAL, UPDATE(AT + SIZE, self->new, 2 * SIZE));
	EXPECT_EQ(-EINVAL, UPDATE(AT + SIZE, self->new + 1, SIZE));
	EXPECT_EQ(-EINVAL, UPDATE(AT + SIZE, self->new, 0));
	EXPECT_EQ(-EOVERFLOW, UPDATE(EVERYWHERE, self->new, 2 * PAGE));
	EXPECT_EQ(-EOVERFLOW, UPDATE(AT + SIZE, (void *)EVERYWHERE, SIZE));
	EXPECT_EQ(-EINVAL, dma_map(self->vmm.container, AT + SIZE, self->new, SIZE,
				   MAP_VADDR | READ_WRITE));
	EXPECT_EQ(-EINVAL, dma_map(self->vmm.container, AT + SIZE, self->new, SIZE,
				   MAP_VADDR | VFIO_DMA_MAP_FLAG_READ));
	EXPECT_SOUND(is_untouched(&self->vmm, self->old));
	EXPECT_EQ(0, UPDATE(AT + SIZE, self->new + SIZE, SIZE));
	EXPECT_SOUND(is_untouched(&self->vmm, self->new));
}

TEST_F_TIMEOUT(vaddr, bad_arguments, TIMEOUT)
{
	struct vfio_iommu_type1_dma_unmap short_unmap = {
		.argsz = sizeof(short_unmap) - 1, .flags = UNMAP_VADDR, .iova = AT, .size = SIZE,
	};
	struct vfio_iommu_type1_dma_map short_map = {
		.argsz = sizeof(short_map) - 1, .flags = MAP_VADDR, .iova = AT, .size = SIZE,
		.vaddr = (uintptr_t)self->new,
	};
	int container = self->vmm.container;

	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_UNMAP_DMA, &short_unmap));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-EINVAL, UNMAP(AT, SIZE, UNMAP_VADDR | 1 << 3));
	EXPECT_EQ(-EINVAL, UNMAP(AT, SIZE, UNMAP_VADDR | 1U << 31));
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, UNMAP_VADDR));
	EXPECT_EQ(-1, ioctl(container, VFIO_IOMMU_MAP_DMA, &short_map));
	EXPECT_EQ(EINVAL, errno);
	for (int bit = 3; bit < 32; bit++)
		EXPECT_EQ(-EINVAL, dma_map(container, AT, self->new, SIZE, MAP_VADDR | 1U << bit));
	EXPECT_EQ(-EFAULT, ioctl(container, VFIO_IOMMU_MAP_DMA, NULL) ? -errno : 0);
	/* It still has no address. */
	EXPECT_EQ(0, UPDATE(AT, self->new, SIZE));
}

/* What goes on while a mapping has no address, and what does not. */
TEST_F_TIMEOUT(vaddr, meanwhile, TIMEOUT)
{
	struct info info;

	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, UNMAP_VADDR));
	/* A group that comes might have to be given the memory. */
	EXPECT_NE(NULL, vmm_attach(&self->vmm, 1));
	EXPECT_EQ(EBUSY, errno);
	vmm_detach(&self->vmm, 1);
	/* Others are mapped and unmapped; and so is what has none. */
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(4), self->old, PAGE, READ_WRITE));
	EXPECT_EQ(-EEXIST, dma_map(self->vmm.container, AT, self->new, SIZE, READ_WRITE));
	EXPECT_EQ(PAGE, UNMAP(GIB(4), PAGE, 0));
	EXPECT_SOUND(is_untouched(&self->vmm, self->old));
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, 0));
	EXPECT_SOUND(account_rose(&self->vmm.before, PAGES, PAGES));
	EXPECT_SOUND(container_info(self->vmm.container, &info));
	if (!variant->joined)
		EXPECT_EQ(UINT16_MAX - 1, info.dma_avail);
	/* It is gone, and nothing has no address: groups come again. */
	EXPECT_EQ(-ENOENT, UPDATE(AT, self->new, SIZE));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT + SIZE, self->old + SIZE, SIZE));
}

/* --- another process --------------------------------------------------------- */

/* Runs `does` in a process of its own, which has all that this one has; how it went. */
static int in_child(int (*does)(FIXTURE_DATA(vaddr) *self), FIXTURE_DATA(vaddr) *self)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(does(self));
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* It has no room for a mapping: it is refused, and charged nothing. */
static int wants_too_much(FIXTURE_DATA(vaddr) *self)
{
	struct account before;

	if (account_read(&before) || account_limit(PAGES - 1))
		return 2;
	return UPDATE(AT, self->new, SIZE) != -ENOMEM || account_rose(&before, 0, 0);
}

/* It has room for just one: the second is refused. */
static int takes_one(FIXTURE_DATA(vaddr) *self)
{
	struct account before;

	if (account_read(&before) || account_limit(PAGES))
		return 2;
	return UPDATE(AT, self->new, SIZE) || account_rose(&before, PAGES, 0) ||
	       UPDATE(AT + SIZE, self->new + SIZE, SIZE) != -ENOMEM ||
	       account_rose(&before, PAGES, 0);
}

TEST_F_TIMEOUT(vaddr, moves_to_another_process, TIMEOUT)
{
	self->vmm.log.memlock_warnings = 0;
	EXPECT_EQ(2 * SIZE, UNMAP(0, 0, UNMAP_VADDR | ALL));
	EXPECT_EQ(0, in_child(wants_too_much, self));
	EXPECT_SOUND(is_untouched(&self->vmm, self->old));
	EXPECT_EQ(0, in_child(takes_one, self));
	/* Half of it was the other process's, which is gone. */
	EXPECT_SOUND(account_rose(&self->vmm.before, PAGES, 2 * PAGES));
	EXPECT_EQ(0, UPDATE(AT + SIZE, self->old + SIZE, SIZE));
	EXPECT_EQ(SIZE, UNMAP(AT + SIZE, SIZE, 0));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, PAGES));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->old, SIZE));
	/* What the other process was charged for comes back here. */
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, UNMAP_VADDR));
	EXPECT_EQ(0, UPDATE(AT, self->old, SIZE));
	EXPECT_SOUND(account_rose(&self->vmm.before, PAGES, PAGES));
	EXPECT_EQ(SIZE, UNMAP(AT, SIZE, 0));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

/* --- a device's registers beside memory ----------------------------------------- */

/* The new process is charged for the memory alone. */
static int takes_mixed(FIXTURE_DATA(vaddr) *self)
{
	struct account before;

	return account_read(&before) || UPDATE(GIB(4), self->new, 2 * EDU_BAR_SIZE) ||
	       account_rose(&before, EDU_BAR_SIZE / PAGE, 0);
}

TEST_F_TIMEOUT(vaddr, registers_are_not_charged, TIMEOUT)
{
	const long pages = EDU_BAR_SIZE / PAGE;
	struct vfio_region_info bar = { .argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX };
	int device = self->vmm.devices[0].edu.device;

	ASSERT_EQ(0, ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar));
	ASSERT_NE(MAP_FAILED, mmap(self->new + EDU_BAR_SIZE, EDU_BAR_SIZE, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, device, bar.offset));
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(4), self->new, 2 * EDU_BAR_SIZE, READ_WRITE));
	EXPECT_SOUND(account_rose(&self->vmm.before, 2 * PAGES + pages, 2 * PAGES + pages));
	EXPECT_EQ(2 * EDU_BAR_SIZE, UNMAP(GIB(4), 2 * EDU_BAR_SIZE, UNMAP_VADDR));
	EXPECT_EQ(0, in_child(takes_mixed, self));
	EXPECT_SOUND(account_rose(&self->vmm.before, 2 * PAGES, 2 * PAGES + pages));
	EXPECT_EQ(2 * EDU_BAR_SIZE, UNMAP(GIB(4), 2 * EDU_BAR_SIZE, 0));
	/* It keeps the device open. */
	munmap(self->new + EDU_BAR_SIZE, EDU_BAR_SIZE);
	EXPECT_SOUND(is_untouched(&self->vmm, self->old));
}

/* --- page states ------------------------------------------------------------------ */

static int change(struct vmm *vmm, uint64_t iova, uint64_t size, uint32_t state)
{
	struct vfio_pgsize_state to = { .iova = iova, .size = size, .state = state };
	uint32_t nr = 1;

	return set_state(vmm->container, &to, &nr);
}

/* One page is shared in the first, and two in the other: so many are charged. */
static int takes_shared(FIXTURE_DATA(vaddr) *self)
{
	struct account before;

	return account_read(&before) || UPDATE(GIB(4), self->new, 4 * PAGE) ||
	       account_rose(&before, 1, 0) ||
	       UPDATE(GIB(4) + 8 * PAGE, self->new + 8 * PAGE, 8 * PAGE) ||
	       account_rose(&before, 3, 0);
}

TEST_F_TIMEOUT(vaddr, stateful, TIMEOUT)
{
	const uint32_t flags = READ_WRITE | VFIO_PGSIZE_MAP_STATEFUL;
	struct leaves expected = {}, found = {};

	if (variant->type != VFIO_PGSIZE_IOMMU)
		SKIP(return, "type1v2 has no page states");
	EXPECT_EQ(2 * SIZE, UNMAP(AT, 2 * SIZE, 0));
	ASSERT_SOUND(vmm_map(&self->vmm, GIB(4), self->old, 16 * PAGE, flags));
	for (int i = 0; i < 16; i += 5)
		ASSERT_EQ(0, change(&self->vmm, GIB(4) + i * PAGE, PAGE, VFIO_PGSIZE_STATE_SHARED));
	EXPECT_SOUND(account_rose(&self->vmm.before, 4, 4));
	EXPECT_EQ(16 * PAGE, UNMAP(0, 0, UNMAP_VADDR | ALL));
	/* There is nothing to be pinned; what is pinned can go. */
	for (uint64_t size = PAGE; size <= 4 * PAGE; size *= 4) {
		EXPECT_EQ(-EBUSY, change(&self->vmm, GIB(4) + PAGE, size,
					 VFIO_PGSIZE_STATE_SHARED));
	}
	EXPECT_EQ(0, change(&self->vmm, GIB(4) + 5 * PAGE, PAGE, VFIO_PGSIZE_STATE_PRIVATE));
	EXPECT_SOUND(account_rose(&self->vmm.before, 3, 3));
	/* A part goes; each of those that stay has no address, and is a mapping by itself. */
	EXPECT_EQ(4 * PAGE, UNMAP(GIB(4) + 4 * PAGE, 4 * PAGE, 0));
	EXPECT_EQ(-EINVAL, UPDATE(GIB(4), self->new, 16 * PAGE));
	EXPECT_EQ(0, in_child(takes_shared, self));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 3));
	/* That was another process's: it comes back, elsewhere in the same memory. */
	EXPECT_EQ(12 * PAGE, UNMAP(0, 0, UNMAP_VADDR | ALL));
	EXPECT_EQ(0, UPDATE(GIB(4), self->new, 4 * PAGE));
	EXPECT_EQ(0, UPDATE(GIB(4) + 8 * PAGE, self->old + SIZE, 8 * PAGE));
	EXPECT_SOUND(account_rose(&self->vmm.before, 3, 3));
	EXPECT_EQ(0, change(&self->vmm, GIB(4) + 9 * PAGE, PAGE, VFIO_PGSIZE_STATE_SHARED));
	EXPECT_SOUND(account_rose(&self->vmm.before, 4, 4));
	EXPECT_SOUND(leaves_tile(&expected, GIB(4) + 9 * PAGE, self->old + SIZE + PAGE, PAGE,
				 ONLY_4K, READ_WRITE));
	EXPECT_SOUND(leaves_query(&found, self->vmm.container, 0, GIB(4) + 9 * PAGE, PAGE));
	EXPECT_SOUND(leaves_differ(&expected, &found));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, GIB(4) + 9 * PAGE, self->old + SIZE + PAGE,
				     PAGE));
	leaves_free(&expected);
	leaves_free(&found);
	EXPECT_EQ(12 * PAGE, UNMAP(0, 0, ALL));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

/* --- each allocation, and each copy of an argument, fails in turn ------------------- */

#define MOST	100

TEST_F_TIMEOUT(vaddr, failures, TIMEOUT)
{
	int file, failed = 0, ret = 0;

	if (access("/proc/thread-self/fail-nth", F_OK))
		SKIP(return, "this kernel makes no allocation fail");
	ASSERT_SOUND(fail_nth_open(&file));
	for (int n = 1; n < MOST; n++) {
		ASSERT_SOUND(fail_nth(file, n));
		ret = UNMAP(AT, SIZE, UNMAP_VADDR);
		ret = ret == SIZE ? 0 : ret;
		if (!fail_nth_happened(file))
			break;
		/* All is done if it is the answer that could not be written, or if the kernel survived. */
		EXPECT_EQ(!ret || (ret == -EFAULT && n > 1) ? 0 : -EINVAL,
			  UPDATE(AT, self->old, SIZE));
	}
	for (int n = 1; ret == 0 && n < MOST; n++) {
		ASSERT_SOUND(fail_nth(file, n));
		ret = UPDATE(AT, self->new, SIZE);
		/* The kernel survives some failures: a slab takes pages of a lower order. */
		if (!fail_nth_happened(file) || !ret)
			break;
		failed++;
		EXPECT_TRUE(ret == -ENOMEM || ret == -EFAULT) {
			TH_LOG("failure %d: %s", n, strerror(-ret));
		}
		EXPECT_SOUND(account_rose(&self->vmm.before, 2 * PAGES, 2 * PAGES));
		ret = 0;
	}
	EXPECT_EQ(0, ret);
	/* type1 makes none here. */
	EXPECT_LT(variant->parameters ? 1 : 0, failed);
	EXPECT_SOUND(is_untouched(&self->vmm, self->new));
	close(file);
}

TEST_PROGRAM("Takes the addresses of mapped memory away, and gives it others: VFIO_UPDATE_VADDR.")
