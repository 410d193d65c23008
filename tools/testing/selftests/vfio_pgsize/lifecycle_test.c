// SPDX-License-Identifier: GPL-2.0
/*
 * Coming and going: of the module, of the VMM during its work, and of file descriptors in every
 * order. Nothing may stay locked, pinned or mapped.
 */
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "harness.h"
#include "kill.h"
#include "module.h"
#include "units.h"
#include "vmm.h"

#define AT	GIB(1)
#define SIZE	MIB(8)

FIXTURE(lifecycle) {
	struct vmm vmm;
	struct memory memory;
};

FIXTURE_SETUP(lifecycle)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

FIXTURE_TEARDOWN(lifecycle)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

static problem map_all(struct vmm *vmm, struct memory *memory)
{
	return vmm_map(vmm, AT, memory->va, memory->size, READ_WRITE);
}

/* --- the module ---------------------------------------------------------- */

FIXTURE(module) {
	struct kernel_log log;
};

FIXTURE_SETUP(module)
{
	ASSERT_SOUND(kernel_log_start(&self->log));
	ASSERT_SOUND(module_require_none());
}

FIXTURE_TEARDOWN(module)
{
	EXPECT_SOUND(kernel_log_end(&self->log));
}

TEST_F_TIMEOUT(module, load_and_unload, TIMEOUT)
{
	int container = container_open();

	ASSERT_LE(0, container);
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(0, container_extension(container, VFIO_PGSIZE_IOMMU));
		ASSERT_SOUND(module_load(""));
		EXPECT_EQ(VFIO_PGSIZE_VERSION, container_extension(container, VFIO_PGSIZE_IOMMU));
		EXPECT_EQ(0, module_unload());
	}
	EXPECT_EQ(-ENOENT, module_unload());
	close(container);
}

/* The load parameters decide who serves type1v2. */
TEST_F_TIMEOUT(module, serves_type1v2_when_asked, TIMEOUT)
{
	struct vmm vmm;

	ASSERT_SOUND(module_load(""));
	ASSERT_SOUND(vmm_open(&vmm, VFIO_TYPE1v2_IOMMU, 1));
	EXPECT_EQ(0, container_extension(vmm.container, VFIO_PGSIZE_IOMMU));
	/* type1 serves: the module can be unloaded. */
	EXPECT_EQ(0, module_unload());
	ASSERT_SOUND(vmm_close(&vmm));
	ASSERT_SOUND(module_load("serve_type1v2=1"));
	ASSERT_SOUND(vmm_open(&vmm, VFIO_TYPE1v2_IOMMU, 1));
	EXPECT_EQ(VFIO_PGSIZE_VERSION, container_extension(vmm.container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(-EAGAIN, module_unload());
	EXPECT_SOUND(vmm_close(&vmm));
	EXPECT_EQ(0, module_unload());
}

/* In use from VFIO_SET_IOMMU until the last group leaves, in every state between. */
TEST_F_TIMEOUT(module, busy_while_in_use, TIMEOUT)
{
	struct memory memory = {};
	int container, group;
	char bdf[BDF_SIZE];

	ASSERT_SOUND(module_load(""));
	ASSERT_SOUND(memory_alloc(&memory, ANON_4K, MIB(1)));
	ASSERT_SOUND(edu_find(0, bdf));
	container = container_open();
	group = group_open(bdf);
	ASSERT_LE(0, container);
	ASSERT_LE(0, group);
	ASSERT_EQ(0, group_join(group, container));
	/* Nobody uses its type: it can be unloaded and loaded again. */
	EXPECT_EQ(0, module_unload());
	EXPECT_EQ(-ENODEV, container_set_type(container, VFIO_PGSIZE_IOMMU));
	ASSERT_SOUND(module_load(""));

	ASSERT_EQ(0, container_set_type(container, VFIO_PGSIZE_IOMMU));
	EXPECT_EQ(-EAGAIN, module_unload());
	ASSERT_EQ(0, policy_of_all(container, 0, ONLY_4K));
	EXPECT_EQ(-EAGAIN, module_unload());
	ASSERT_EQ(0, dma_map(container, AT, memory.va, memory.size, READ_WRITE));
	EXPECT_EQ(-EAGAIN, module_unload());
	EXPECT_SOUND(dma_unmap_exactly(container, AT, memory.size));
	EXPECT_EQ(-EAGAIN, module_unload());
	ASSERT_EQ(0, dma_map(container, AT, memory.va, memory.size, READ_WRITE));
	ASSERT_EQ(0, group_leave(group));
	EXPECT_EQ(0, module_unload());
	close(group);
	close(container);
	memory_free(&memory);
}

/* --- the VMM is killed ---------------------------------------------------- */

/* A VMM's work until it is killed. */
enum work { MAPS, APPLIES };

static void be_busy(void *arg, int ready)
{
	enum work work = *(enum work *)arg;
	struct memory memory = {};
	struct vmm vmm;
	int ret = 0;

	if (memory_alloc(&memory, work == MAPS ? ANON_4K : HUGETLB_2M, MIB(32)) ||
	    vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1))
		_exit(1);
	if (work == APPLIES)
		ret = dma_map(vmm.container, AT, memory.va, memory.size, READ_WRITE);
	if (ret || !kill_when_ready(ready))
		_exit(2);
	while (!ret) {
		uint64_t size = memory.size;

		if (work == APPLIES) {
			ret = policy_of_all(vmm.container, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K);
			if (!ret)
				ret = policy_of_all(vmm.container, VFIO_PGSIZE_POLICY_APPLY,
						    ANY_SIZE);
			continue;
		}
		ret = dma_map(vmm.container, AT, memory.va, size, READ_WRITE);
		if (!ret)
			ret = dma_unmap(vmm.container, AT, &size, 0);
	}
	_exit(3);
}

static void kill_while(struct __test_metadata *_metadata, enum work work)
{
	struct account before;
	struct kernel_log log;
	struct vmm vmm;

	ASSERT_SOUND(kernel_log_start(&log));
	ASSERT_SOUND(module_load(""));
	ASSERT_SOUND(account_read(&before));
	for (int round = 0; round < 12; round++) {
		ASSERT_SOUND(kill_at_work(be_busy, &work, round * 7919));
		EXPECT_SOUND(account_settles(&before)) {
			TH_LOG("round %d", round);
		}
	}
	/* The device works as before. */
	ASSERT_SOUND(vmm_open(&vmm, VFIO_PGSIZE_IOMMU, 1));
	EXPECT_SOUND(vmm_has_nothing(&vmm));
	EXPECT_SOUND(vmm_close(&vmm));
	huge_pages_release();
	EXPECT_SOUND(module_require_none());
	EXPECT_SOUND(kernel_log_end(&log));
}

TEST_F_TIMEOUT(module, killed_while_mapping, 2 * TIMEOUT)
{
	kill_while(_metadata, MAPS);
}

TEST_F_TIMEOUT(module, killed_while_applying, 2 * TIMEOUT)
{
	kill_while(_metadata, APPLIES);
}

/* --- file descriptors in every order -------------------------------------- */

/* The container's descriptor first: its group keeps everything alive, and DMA continues. */
TEST_F_TIMEOUT(lifecycle, container_closed_first, TIMEOUT)
{
	uint64_t pages = SIZE / PAGE;

	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	close(self->vmm.container);
	self->vmm.container = -1;
	EXPECT_SOUND(account_rose(&self->vmm.before, pages, pages));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	EXPECT_EQ(-EAGAIN, module_unload());
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_EQ(0, module_unload());
}

/* The last group first: the container is as before VFIO_SET_IOMMU. */
TEST_F_TIMEOUT(lifecycle, group_closed_first, TIMEOUT)
{
	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_EQ(-EINVAL, dma_map(self->vmm.container, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_EQ(-EINVAL, policy_of_all(self->vmm.container, 0, ONLY_4K));
	EXPECT_EQ(0, module_unload());
}

/* An open device holds its group: the group cannot leave. */
TEST_F_TIMEOUT(lifecycle, group_with_open_device_stays, TIMEOUT)
{
	struct vmm_device *device = &self->vmm.devices[0];

	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	EXPECT_EQ(-EBUSY, group_leave(device->group));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	edu_close(&device->edu);
	ASSERT_EQ(0, group_leave(device->group));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

/* The device's descriptor last: mappings last as long. */
TEST_F_TIMEOUT(lifecycle, device_closed_last, TIMEOUT)
{
	struct vmm_device *device = &self->vmm.devices[0];

	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	close(self->vmm.container);
	close(device->group);
	self->vmm.container = -1;
	device->group = -1;
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	EXPECT_EQ(-EAGAIN, module_unload());
	edu_close(&device->edu);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_EQ(0, module_unload());
}

/* Emptied and set up again, the container starts afresh. */
TEST_F_TIMEOUT(lifecycle, set_up_again, TIMEOUT)
{
	struct vmm_device *device = &self->vmm.devices[0];
	struct vfio_pgsize_policy policy;
	int fd;

	ASSERT_SOUND(vmm_policy(&self->vmm, 0, ONLY_4K));
	for (int round = 0; round < 3; round++) {
		ASSERT_SOUND(map_all(&self->vmm, &self->memory));
		EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE,
					   round ? ANY_SIZE : ONLY_4K, READ_WRITE));
		EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
		edu_close(&device->edu);
		ASSERT_EQ(0, group_leave(device->group));
		EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
		ASSERT_EQ(0, group_join(device->group, self->vmm.container));
		ASSERT_EQ(0, container_set_type(self->vmm.container, VFIO_PGSIZE_IOMMU));
		fd = group_device(device->group, device->bdf);
		ASSERT_LE(0, fd);
		ASSERT_SOUND(edu_open(&device->edu, fd, device->bdf));
		ASSERT_EQ(0, policy_get(self->vmm.container, &policy, 0, 0));
		EXPECT_EQ(VFIO_PGSIZE_ALL, policy.pgsizes);
		EXPECT_SOUND(vmm_has_nothing(&self->vmm));
	}
}

/* A device that is closed and opened again finds its mappings. */
TEST_F_TIMEOUT(lifecycle, device_reopened, TIMEOUT)
{
	struct vmm_device *device = &self->vmm.devices[0];
	int fd;

	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	edu_close(&device->edu);
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ANY_SIZE, READ_WRITE));
	fd = group_device(device->group, device->bdf);
	ASSERT_LE(0, fd);
	ASSERT_SOUND(edu_open(&device->edu, fd, device->bdf));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
}

/* A child that inherits the container unmaps its parent's mappings and pays nothing. */
TEST_F_TIMEOUT(lifecycle, child_unmaps, TIMEOUT)
{
	uint64_t pages = SIZE / PAGE;
	pid_t child;
	int status;

	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	/* Otherwise fork copies the pinned pages, and there are no more of these. */
	ASSERT_EQ(0, madvise(self->memory.va, SIZE, MADV_DONTFORK));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct account own = { .pinned = self->vmm.before.pinned };

		if (account_rose(&own, 0, pages) ||
		    dma_unmap_exactly(self->vmm.container, AT, SIZE) || account_rose(&own, 0, 0))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
	EXPECT_SOUND(vmm_has_nothing(&self->vmm));
}

/* The process that mapped exits, its child keeps the container: the pages stay pinned. */
TEST_F_TIMEOUT(lifecycle, mapper_is_gone, TIMEOUT)
{
	struct leaves found = {};
	pid_t child = fork();
	int status;

	ASSERT_LE(0, child);
	if (!child) {
		struct memory memory = {};

		_exit(memory_alloc(&memory, ANON_4K, MIB(2)) ||
		      vmm_map(&self->vmm, AT, memory.va, memory.size, READ_WRITE));
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, MIB(2) / PAGE));
	ASSERT_SOUND(leaves_query(&found, self->vmm.container, 0, AT, MIB(2)));
	EXPECT_EQ(VFIO_PGSIZE_RUN_READ | VFIO_PGSIZE_RUN_WRITE, found.runs[0].flags);
	leaves_free(&found);
	EXPECT_SOUND(edu_fetch(&self->vmm.devices[0].edu, AT, PAGE));
	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K));
	ASSERT_SOUND(leaves_query(&found, self->vmm.container, 0, AT, MIB(2)));
	EXPECT_EQ(512, leaves_count_size(&found, PAGE));
	leaves_free(&found);
	EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, MIB(2)));
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

/* One of two groups leaves while the other does DMA; then the other leaves. */
TEST_F_TIMEOUT(lifecycle, groups_leave_one_by_one, TIMEOUT)
{
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	ASSERT_SOUND(map_all(&self->vmm, &self->memory));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT, self->memory.va, SIZE));
	vmm_detach(&self->vmm, 0);
	EXPECT_SOUND(account_rose(&self->vmm.before, SIZE / PAGE, SIZE / PAGE));
	EXPECT_SOUND(vmm_has_tiles(&self->vmm, AT, self->memory.va, SIZE, ANY_SIZE, READ_WRITE));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 1, AT, self->memory.va, SIZE));
	vmm_detach(&self->vmm, 1);
	EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
}

TEST_PROGRAM("Loads, unloads, kills, forks and closes in every order, and checks that nothing is left.")
