// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that are software read and write the memory of mappings in a container that has
 * no IOMMU. type1 gives the same answers.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include "alone.h"

static int rw_of_another(FIXTURE_DATA(alone) *self)
{
	char byte;

	return emulated_rw(self->device, AT, &byte, 1, 0) != -EFAULT ||
	       emulated_rw(self->device, AT, &byte, 1, EMULATED_THREAD);
}

TEST_F_TIMEOUT(alone, reads_and_writes, TIMEOUT)
{
	const uint64_t at = AT + SIZE / 2 - 3 * PAGE - 5;
	const uint32_t size = 6 * PAGE + 10;
	uint8_t *va = self->memory.va + SIZE / 2 - 3 * PAGE - 5;
	uint8_t data[6 * PAGE + 10];
	int status;
	pid_t child;

	for (uint32_t flags = 0; flags <= EMULATED_THREAD; flags += EMULATED_THREAD) {
		fill_with_pattern(va, size);
		memset(data, 0, size);
		EXPECT_EQ(0, emulated_rw(self->device, at, data, size, flags));
		EXPECT_EQ(0, memcmp(data, va, size));
		fill_with_pattern(data, size);
		va[-1] = 1;
		va[size] = 1;
		EXPECT_EQ(0, emulated_rw(self->device, at, data, size, flags | EMULATED_WRITE));
		EXPECT_EQ(0, memcmp(data, va, size));
		EXPECT_EQ(1, va[-1]);
		EXPECT_EQ(1, va[size]);

		EXPECT_EQ(-EINVAL, emulated_rw(self->device, GIB(2), data, 1, flags));
		EXPECT_EQ(-EINVAL, emulated_rw(self->device, AT + SIZE - 5, data, 6, flags));
		EXPECT_EQ(0, emulated_rw(self->device, AT + SIZE - 5, data, 5, flags));
	}
	/* Beyond the last address, of which the last page is mapped. */
	ASSERT_EQ(0, MAP(EVERYWHERE, self->memory.va, PAGE, READ_WRITE));
	EXPECT_EQ(0, emulated_rw(self->device, EVERYWHERE + PAGE - 5, data, 5, 0));
	EXPECT_EQ(-EINVAL, emulated_rw(self->device, EVERYWHERE + PAGE - 5, data, 6, 0));
	EXPECT_EQ(-EINVAL, emulated_rw(self->device, EVERYWHERE + PAGE - 5, data, 6, EMULATED_WRITE));
	ASSERT_EQ(0, MAP(GIB(2), self->memory.va, PAGE, READ));
	ASSERT_EQ(0, MAP(GIB(2) + PAGE, self->memory.va, PAGE, WRITE));
	EXPECT_EQ(0, emulated_rw(self->device, GIB(2), data, 8, 0));
	EXPECT_EQ(-EPERM, emulated_rw(self->device, GIB(2), data, 8, EMULATED_WRITE));
	EXPECT_EQ(-EPERM, emulated_rw(self->device, GIB(2) + PAGE, data, 8, EMULATED_WRITE));
	EXPECT_EQ(-EPERM, emulated_rw(self->device, GIB(2) + PAGE, data, 8, 0));
	/* Another process's memory is not the caller's. */
	child = fork();
	if (!child)
		_exit(rw_of_another(self));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, munmap(self->memory.va, PAGE));
	EXPECT_EQ(-EFAULT, emulated_rw(self->device, AT, data, 8, 0));
	EXPECT_EQ(-EFAULT, emulated_rw(self->device, AT, data, 8, EMULATED_THREAD));
	ROSE(0, 0);
}

/* A container of VFIO_TYPE1_IOMMU, in which no page can be pinned. */
FIXTURE(v1) {
	struct alone vmm;
	struct memory memory;
};

FIXTURE_VARIANT(v1) {
	const char *parameters;
};

FIXTURE_VARIANT_ADD(v1, type1) { NULL };
FIXTURE_VARIANT_ADD(v1, pgsize) { "serve_type1=1" };

FIXTURE_SETUP(v1)
{
	SKIP_TYPE1_UNDER_LOCKDEP();
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, SIZE));
	ASSERT_SOUND(alone_open(&self->vmm, VFIO_TYPE1_IOMMU, 1));
	ASSERT_EQ(0, dma_map(self->vmm.container, AT, self->memory.va, SIZE, READ_WRITE));
}

FIXTURE_TEARDOWN(v1)
{
	EXPECT_SOUND(alone_close(&self->vmm));
	memory_free(&self->memory);
}

TEST_F_TIMEOUT(v1, only_reads_and_writes, TIMEOUT)
{
	struct emulated *device = &self->vmm.devices[0];
	char bytes[16] = "to the guest";
	uint64_t size = PAGE;

	EXPECT_EQ(-EACCES, emulated_pin(device, AT, 1, RW, NULL));
	ROSE(0, 0);
	EXPECT_EQ(0, emulated_rw(device, AT + PAGE, bytes, sizeof(bytes), EMULATED_WRITE));
	EXPECT_STREQ("to the guest", (char *)self->memory.va + PAGE);
	/* All of the mapping goes. */
	EXPECT_EQ(0, dma_unmap(self->vmm.container, AT, &size, 0));
	EXPECT_EQ(SIZE, size);
	EXPECT_EQ(-EINVAL, emulated_rw(device, AT + PAGE, bytes, sizeof(bytes), 0));
}

TEST_PROGRAM("Devices that are software read and write memory, as with type1.")
