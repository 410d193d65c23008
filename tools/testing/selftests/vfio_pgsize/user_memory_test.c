// SPDX-License-Identifier: GPL-2.0
/*
 * Which process memory can be mapped: the answer is vfio_iommu_type1's, whether or not a page is
 * present, and the same if pages become shared one by one.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <linux/userfaultfd.h>

#include "harness.h"
#include "module.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

#define AT	GIB(1)
#define PAGES	16
#define SIZE	(PAGES * PAGE)
#define READ	VFIO_DMA_MAP_FLAG_READ
#define WRITE	VFIO_DMA_MAP_FLAG_WRITE

FIXTURE(user_memory) {
	struct vmm vmm;
};

FIXTURE_VARIANT(user_memory) {
	const char *parameters;	/* of vfio_pgsize; NULL: not loaded */
	unsigned long type;
	bool states;		/* by SET_STATE: all pages in one change */
	bool each;		/* by SET_STATE: a change for each page */
};

FIXTURE_VARIANT_ADD(user_memory, type1) { .type = VFIO_TYPE1v2_IOMMU };
FIXTURE_VARIANT_ADD(user_memory, pgsize_as_type1v2) {
	.parameters = "serve_type1v2=1", .type = VFIO_TYPE1v2_IOMMU,
};
FIXTURE_VARIANT_ADD(user_memory, pgsize) { .parameters = "", .type = VFIO_PGSIZE_IOMMU };
FIXTURE_VARIANT_ADD(user_memory, page_states) {
	.parameters = "", .type = VFIO_PGSIZE_IOMMU, .states = true,
};
FIXTURE_VARIANT_ADD(user_memory, page_states_each) {
	.parameters = "", .type = VFIO_PGSIZE_IOMMU, .states = true, .each = true,
};

FIXTURE_SETUP(user_memory)
{
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(vmm_open(&self->vmm, variant->type, 1));
}

FIXTURE_TEARDOWN(user_memory)
{
	EXPECT_SOUND(vmm_close(&self->vmm));
}

static int share(int container, bool each, uint64_t size)
{
	struct vfio_pgsize_state changes[PAGES] = {};
	uint64_t piece = each ? PAGE : size;
	uint32_t nr = size / piece;

	for (uint32_t i = 0; i < nr; i++) {
		changes[i].iova = AT + i * piece;
		changes[i].size = piece;
		changes[i].state = VFIO_PGSIZE_STATE_SHARED;
	}
	return set_state(container, changes, &nr);
}

/* 0, or why a device cannot use this memory. Unmaps it again. */
static int answer(FIXTURE_DATA(user_memory) *self, const FIXTURE_VARIANT(user_memory) *variant,
		  const void *va, uint64_t size, uint32_t flags)
{
	int container = self->vmm.container, ret;

	if (variant->states)
		flags |= VFIO_PGSIZE_MAP_STATEFUL;
	ret = dma_map(container, AT, va, size, flags);
	if (ret)
		return ret;
	if (variant->states)
		ret = share(container, variant->each, size);
	if (dma_unmap_exactly(container, AT, size))
		return -ENOTRECOVERABLE;
	return account_rose(&self->vmm.before, 0, 0) ? -ENOTRECOVERABLE : ret;
}

#define ANSWER(va, size, flags)	answer(self, variant, va, size, flags)

/* Anonymous pages, written to if `touched`, with the final protection `prot`. */
static uint8_t *pages_of(int prot, bool touched)
{
	uint8_t *va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (va == MAP_FAILED)
		return NULL;
	if (touched)
		memset(va, 1, SIZE);
	return mprotect(va, SIZE, prot) ? NULL : va;
}

/* The answer depends on the mapping's protection, not on the page table's contents. */
TEST_F_TIMEOUT(user_memory, protection, TIMEOUT)
{
	static const struct {
		int prot;
		int read, write, both;
	} cases[] = {
		{ PROT_READ | PROT_WRITE, 0, 0, 0 },
		{ PROT_READ, 0, -EFAULT, -EFAULT },
		{ PROT_WRITE, -EFAULT, 0, 0 },
		{ PROT_EXEC, -EFAULT, -EFAULT, -EFAULT },
		{ PROT_READ | PROT_EXEC, 0, -EFAULT, -EFAULT },
		{ PROT_NONE, -EFAULT, -EFAULT, -EFAULT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (int touched = 0; touched < 2; touched++) {
			uint8_t *va = pages_of(cases[i].prot, touched);

			ASSERT_NE(NULL, va);
			EXPECT_EQ(cases[i].read, ANSWER(va, SIZE, READ)) {
				TH_LOG("read, protection %d, touched %d", cases[i].prot, touched);
			}
			EXPECT_EQ(cases[i].write, ANSWER(va, SIZE, WRITE)) {
				TH_LOG("write, protection %d, touched %d", cases[i].prot, touched);
			}
			EXPECT_EQ(cases[i].both, ANSWER(va, SIZE, READ_WRITE)) {
				TH_LOG("both, protection %d, touched %d", cases[i].prot, touched);
			}
			munmap(va, SIZE);
		}
	}
}

/* One page in the middle of others, with its own protection. */
TEST_F_TIMEOUT(user_memory, protection_of_one_page, TIMEOUT)
{
	uint8_t *va = pages_of(PROT_READ | PROT_WRITE, true);

	ASSERT_NE(NULL, va);
	for (int i = 0; i < PAGES; i += 5) {
		ASSERT_EQ(0, mprotect(va + i * PAGE, PAGE, PROT_WRITE));
		EXPECT_EQ(-EFAULT, ANSWER(va, SIZE, READ));
		EXPECT_EQ(0, ANSWER(va, SIZE, READ_WRITE));
		ASSERT_EQ(0, mprotect(va + i * PAGE, PAGE, PROT_READ));
		EXPECT_EQ(0, ANSWER(va, SIZE, READ));
		EXPECT_EQ(-EFAULT, ANSWER(va, SIZE, READ_WRITE));
		ASSERT_EQ(0, mprotect(va + i * PAGE, PAGE, PROT_READ | PROT_WRITE));
		EXPECT_EQ(0, ANSWER(va, SIZE, READ_WRITE));
	}
	munmap(va, SIZE);
}

/* Pages of the kernel that every process can read. */
static bool special(const char *name, uint8_t **start, uint8_t **end)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	bool found = false;
	char line[256];

	while (maps && !found && fgets(line, sizeof(line), maps))
		found = strstr(line, name) &&
			sscanf(line, "%p-%p", (void **)start, (void **)end) == 2;
	if (maps)
		fclose(maps);
	return found;
}

static int is_present(const void *va)
{
	int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;
	ssize_t length = pread(file, &entry, sizeof(entry), (uintptr_t)va / PAGE * sizeof(entry));

	close(file);
	return length == sizeof(entry) ? (int)(entry >> 63) : -1;
}

/*
 * They are VM_MIXEDMAP: a page that the process has read is like any other; a page that it has
 * not read is not faulted in for another's access (lib/vdso/datastore.c).
 */
TEST_F_TIMEOUT(user_memory, pages_of_the_kernel, TIMEOUT)
{
	uint8_t *va, *end;
	int absent = 0;

	ASSERT_TRUE(special("[vvar]", &va, &end));
	for (; va < end; va += PAGE) {
		int present = is_present(va);

		ASSERT_LE(0, present);
		absent += !present;
		EXPECT_EQ(present ? 0 : -EFAULT, ANSWER(va, PAGE, READ));
		EXPECT_EQ(-EFAULT, ANSWER(va, PAGE, READ_WRITE));
		EXPECT_EQ(present, is_present(va));
	}
	EXPECT_LT(0, absent);
	/* VM_IO and VM_PFNMAP, of a clock that does not exist. */
	ASSERT_TRUE(special("[vvar_vclock]", &va, &end));
	for (; va < end; va += PAGE)
		EXPECT_EQ(-EFAULT, ANSWER(va, PAGE, READ));
}

TEST_F_TIMEOUT(user_memory, ends_of_the_address_space, TIMEOUT)
{
	static const uint64_t places[] = {
		~0ULL - (PAGE - 1), ~0ULL - (2 * PAGE - 1), (1ULL << 47) - PAGE, 1ULL << 47, 0,
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		EXPECT_EQ(-EFAULT, ANSWER((void *)places[i], PAGE, READ)) {
			TH_LOG("at %#lx", places[i]);
		}
	}
	/* Up to the end, and beyond. */
	EXPECT_EQ(-EFAULT, ANSWER((void *)(~0ULL - (2 * PAGE - 1)), 2 * PAGE, READ));
	EXPECT_EQ(-EOVERFLOW, ANSWER((void *)(~0ULL - (PAGE - 1)), 2 * PAGE, READ));
}

/* --- protection keys ------------------------------------------------------ */

/* A device is not a thread with keys: it counts as another process. */
TEST_F_TIMEOUT(user_memory, protection_keys, TIMEOUT)
{
	static const int rights[] = { PKEY_DISABLE_WRITE, PKEY_DISABLE_ACCESS };
	int any = pkey_alloc(0, 0);

	if (any < 0)
		SKIP(return, "this processor has no protection keys");
	ASSERT_EQ(0, pkey_free(any));
	for (size_t i = 0; i < ARRAY_SIZE(rights); i++) {
		for (int touched = 0; touched < 2; touched++) {
			uint8_t *va = pages_of(PROT_READ | PROT_WRITE, touched);
			int key = pkey_alloc(0, rights[i]);

			ASSERT_NE(NULL, va);
			ASSERT_LT(0, key);
			ASSERT_EQ(0, pkey_mprotect(va, SIZE, PROT_READ | PROT_WRITE, key));
			EXPECT_EQ(0, ANSWER(va, SIZE, READ));
			EXPECT_EQ(0, ANSWER(va, SIZE, READ_WRITE));
			/* One page of many. */
			ASSERT_EQ(0, pkey_mprotect(va, SIZE / 2, PROT_READ | PROT_WRITE, 0));
			EXPECT_EQ(0, ANSWER(va, SIZE, READ_WRITE));

			if (!variant->states) {
				ASSERT_EQ(0, dma_map(self->vmm.container, AT, va, SIZE, READ_WRITE));
				ASSERT_EQ(0, pkey_set(key, 0));
				EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, va, SIZE));
				EXPECT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
			}
			munmap(va, SIZE);
			pkey_free(key);
		}
	}
}

/* --- userfaultfd ------------------------------------------------------------ */

/* Nobody reads its events. */
static int userfaultfd_for(uint8_t *va, uint64_t size, uint64_t mode)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)va, size }, .mode = mode };
	struct uffdio_writeprotect protect = {
		.range = { (uintptr_t)va, size }, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		return -1;
	if (mode == UFFDIO_REGISTER_MODE_WP && ioctl(fd, UFFDIO_WRITEPROTECT, &protect))
		return -1;
	return fd;
}

/* Memory that another thread would have to provide: no call waits for it. */
TEST_F_TIMEOUT(user_memory, missing_pages_of_userfaultfd, TIMEOUT)
{
	static const uint32_t flags[] = { READ, WRITE, READ_WRITE };
	int container = self->vmm.container;
	uint8_t *va = pages_of(PROT_READ | PROT_WRITE, false);
	int fd = userfaultfd_for(va, SIZE, UFFDIO_REGISTER_MODE_MISSING);
	struct info info;

	ASSERT_NE(NULL, va);
	ASSERT_LE(0, fd);
	alarm(PATIENCE);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		EXPECT_EQ(-EFAULT, ANSWER(va, SIZE, flags[i]));
	/* The others are present: only the last one is missing. */
	for (int i = 0; i < PAGES - 1; i++) {
		struct uffdio_zeropage zero = { .range = { (uintptr_t)va + i * PAGE, PAGE } };

		ASSERT_EQ(0, ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	}
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		EXPECT_EQ(-EFAULT, ANSWER(va, SIZE, flags[i]));
	EXPECT_EQ(0, ANSWER(va, SIZE - PAGE, READ_WRITE));
	EXPECT_SOUND(container_info(container, &info));
	alarm(0);
	close(fd);
	EXPECT_EQ(0, ANSWER(va, SIZE, READ_WRITE));
	munmap(va, SIZE);
}

TEST_F_TIMEOUT(user_memory, write_protected_pages_of_userfaultfd, TIMEOUT)
{
	uint8_t *va = pages_of(PROT_READ | PROT_WRITE, true);
	int fd = userfaultfd_for(va, SIZE, UFFDIO_REGISTER_MODE_WP);

	ASSERT_NE(NULL, va);
	ASSERT_LE(0, fd);
	alarm(PATIENCE);
	EXPECT_EQ(-EFAULT, ANSWER(va, SIZE, READ_WRITE));
	EXPECT_EQ(-EFAULT, ANSWER(va, SIZE, WRITE));
	alarm(0);
	close(fd);
	EXPECT_EQ(0, ANSWER(va, SIZE, READ_WRITE));
	munmap(va, SIZE);
}

/* --- other properties of type1 --------------------------------------------------- */

TEST_F_TIMEOUT(user_memory, extensions, TIMEOUT)
{
	/* Once a container is set up only its backend is asked. */
	EXPECT_EQ(1, container_extension(self->vmm.container, VFIO_TYPE1_IOMMU));
	EXPECT_EQ(1, container_extension(self->vmm.container, VFIO_TYPE1v2_IOMMU));
}

TEST_PROGRAM("Maps memory of each protection, key and state of userfaultfd, and compares with type1.")
