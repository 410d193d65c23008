// SPDX-License-Identifier: GPL-2.0
/*
 * Bad input for page states: each field wrong in turn, and memory that does not exist or exceeds the
 * limit. The call returns the documented error, SET_STATE reports its progress, and failed changes
 * have no effect.
 */
#include "page_memory.h"
#include "refused.h"
#include "wait.h"

#define CALL	VFIO_PGSIZE_SET_STATE

FIXTURE(page_input) {
	struct vmm vmm;
	struct memory memory;
	struct pages pages;
	struct state before;
};

/* Some pages are shared, and there are plain mappings beside them. */
FIXTURE_SETUP(page_input)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, PRIVATE));
	ASSERT_SOUND(pages_batch(&self->pages, CHANGES({ 0, MIB(4), SHARED },
						       { MIB(3), PAGE, PRIVATE })));
	ASSERT_SOUND(vmm_map(&self->vmm, AT + SIZE, self->memory.va, MIB(2), READ_WRITE));
	self->pages.others = MIB(2) / PAGE;
	ASSERT_SOUND(state_take(&self->vmm, &self->before));
}

FIXTURE_TEARDOWN(page_input)
{
	state_free(&self->before);
	pages_free(&self->pages);
	EXPECT_SOUND(vmm_close(&self->vmm));
	memory_free(&self->memory);
	huge_pages_release();
}

TEST_F_TIMEOUT(page_input, map, TIMEOUT)
{
	struct vfio_iommu_type1_dma_map good = {
		.argsz = sizeof(good),
		.flags = READ_WRITE | STATEFUL,
		.vaddr = (uintptr_t)self->memory.va,
		.iova = GIB(8),
		.size = SIZE,
	};

	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, STATEFUL);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | VFIO_PGSIZE_MAP_SHARED);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags,
	      READ_WRITE | STATEFUL | VFIO_PGSIZE_MAP_JOINED);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | STATEFUL | 1 << 19);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, READ_WRITE | STATEFUL | 1 << 15);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, flags, STATEFUL | VFIO_DMA_MAP_FLAG_VADDR);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, argsz, sizeof(good) - 1);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, vaddr, good.vaddr + 8);
	WRONG(EOVERFLOW, VFIO_IOMMU_MAP_DMA, good, vaddr, EVERYWHERE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, iova, GIB(8) + 1);
	WRONG(EOVERFLOW, VFIO_IOMMU_MAP_DMA, good, iova, EVERYWHERE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, iova, 0xfee00000);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT + SIZE);
	WRONG(EEXIST, VFIO_IOMMU_MAP_DMA, good, iova, AT - PAGE);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, size, 0);
	WRONG(EINVAL, VFIO_IOMMU_MAP_DMA, good, size, PAGE - 1);
	/* Memory must exist if all is shared at first. */
	good.flags |= VFIO_PGSIZE_MAP_SHARED;
	WRONG(EFAULT, VFIO_IOMMU_MAP_DMA, good, vaddr, PAGE * 16);
	WRONG(EFAULT, VFIO_IOMMU_MAP_DMA, good, size, SIZE + MIB(2));
}

/* --- SET_STATE ------------------------------------------------------------- */

/* The request itself: no change is made, and `nr` is unchanged. */
TEST_F_TIMEOUT(page_input, request, TIMEOUT)
{
	struct vfio_pgsize_state change = { AT + MIB(3), PAGE, SHARED };
	struct vfio_pgsize_set_state good = {
		.argsz = sizeof(good),
		.nr = 1,
		.changes = (uintptr_t)&change,
	};
	uint8_t *edge = edge_of_memory();

	WRONG(EINVAL, CALL, good, argsz, 0);
	WRONG(EINVAL, CALL, good, argsz, sizeof(good) - 1);
	WRONG(EINVAL, CALL, good, flags, 1);
	WRONG(EINVAL, CALL, good, flags, 1U << 31);
	WRONG(EINVAL, CALL, good, nr, 0);
	WRONG(EINVAL, CALL, good, reserved, 1);
	WRONG(EFAULT, CALL, good, changes, 0);
	WRONG(EFAULT, CALL, good, changes, (uintptr_t)edge);
	WRONG(EFAULT, CALL, good, changes, (uintptr_t)edge - 8);
	WRONG(EFAULT, CALL, good, changes, 1ULL << 63);
	WRONG2(EFAULT, CALL, good, changes, EVERYWHERE, nr, ~0U);
	UNREADABLE(CALL, good);
	REFUSED(ENOTTY, self->vmm.devices[0].group, CALL, &good);
	/* Additional bytes at the end are ignored. */
	good.argsz = sizeof(good) + 64;
	EXPECT_EQ(0, ioctl(self->vmm.container, CALL, &good));
	EXPECT_EQ(1, good.nr);
}

/* A bad change, first of all, and after two completed ones. */
static problem refuses(FIXTURE_DATA(page_input) *self, const struct vfio_pgsize_state *bad,
		       int error)
{
	struct vfio_pgsize_state changes[] = {
		{ AT + MIB(1), PAGE, PRIVATE }, { AT + MIB(5), PAGE, SHARED }, *bad,
		{ AT + MIB(6), PAGE, SHARED },
	};
	uint32_t nr = 2;
	problem wrong;
	int ret = set_state(self->vmm.container, changes + 2, &nr);

	if (ret != -error || nr)
		return problem_is("%s, %u done; expected %s, 0", strerror(-ret), nr,
				  strerror(error));
	wrong = state_is(&self->vmm, &self->before);
	if (wrong)
		return wrong;
	nr = ARRAY_SIZE(changes);
	ret = set_state(self->vmm.container, changes, &nr);
	if (ret != -error || nr != 2)
		return problem_is("%s, %u done; expected %s, 2", strerror(-ret), nr,
				  strerror(error));
	wrong = pages_note(&self->pages, CHANGES({ MIB(1), PAGE, PRIVATE },
						 { MIB(5), PAGE, SHARED }));
	if (!wrong)
		wrong = pages_agree_quickly(&self->pages);
	if (!wrong)
		wrong = pages_batch(&self->pages, CHANGES({ MIB(1), PAGE, SHARED },
							  { MIB(5), PAGE, PRIVATE }));
	return wrong ? wrong : state_is(&self->vmm, &self->before);
}

TEST_F_TIMEOUT(page_input, change, TIMEOUT)
{
	static const struct {
		struct vfio_pgsize_state change;
		int error;
	} bad[] = {
		{ { AT + 1, PAGE, SHARED }, EINVAL },
		{ { AT + PAGE / 2, PAGE, PRIVATE }, EINVAL },
		{ { AT, 0, SHARED }, EINVAL },
		{ { AT, PAGE + 1, SHARED }, EINVAL },
		{ { AT, PAGE, 2 }, EINVAL },
		{ { AT, PAGE, ~0U }, EINVAL },
		{ { AT, PAGE, SHARED, .reserved = 1 }, EINVAL },
		{ { EVERYWHERE, 2 * PAGE, SHARED }, EOVERFLOW },
		{ { AT, EVERYWHERE, SHARED }, EOVERFLOW },
		{ { EVERYWHERE, PAGE, SHARED }, ENOENT },
		{ { 0, PAGE, SHARED }, ENOENT },
		{ { AT - PAGE, PAGE, PRIVATE }, ENOENT },
		{ { AT - PAGE, 2 * PAGE, SHARED }, ENOENT },
		{ { AT, SIZE + PAGE, PRIVATE }, ENOENT },
		{ { AT + SIZE - PAGE, 2 * PAGE, SHARED }, ENOENT },
		{ { AT + SIZE, PAGE, SHARED }, ENOENT },	/* mapped, without a state */
		{ { AT + SIZE, PAGE, PRIVATE }, ENOENT },
		{ { AT + SIZE + MIB(2), PAGE, SHARED }, ENOENT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_SOUND(refuses(self, &bad[i].change, bad[i].error)) {
			TH_LOG("change %zu", i);
		}
	}
}

/* Changes that are partly readable: the readable ones are made, and counted. */
TEST_F_TIMEOUT(page_input, changes_end_early, TIMEOUT)
{
	struct vfio_pgsize_state *edge = (void *)edge_of_memory();
	struct change all[20];

	for (uint32_t i = 0; i < ARRAY_SIZE(all); i++) {
		uint64_t place = i * KIB(64);

		all[i] = (struct change){ place, PAGE, i % 2 ? SHARED : PRIVATE };
	}
	for (uint32_t readable = 0; readable <= 10; readable += 5) {
		/* The next one is partly readable, or not at all. */
		for (size_t more = 0; more < sizeof(*edge); more += sizeof(*edge) / 2) {
			struct vfio_pgsize_state *changes = (void *)edge - more;
			uint32_t nr = ARRAY_SIZE(all);

			changes -= readable;
			pages_changes(&self->pages, all, readable, changes);
			EXPECT_EQ(-EFAULT, set_state(self->vmm.container, changes, &nr));
			EXPECT_EQ(readable, nr);
			ASSERT_SOUND(pages_note(&self->pages, all, readable));
			EXPECT_SOUND(pages_agree(&self->pages));
		}
	}
}

/* The call does not allocate memory for an impossible number of changes. */
TEST_F_TIMEOUT(page_input, very_many_changes, TIMEOUT)
{
	uint32_t many = 20000, nr = many;
	struct vfio_pgsize_state *changes = calloc(many, sizeof(*changes));

	ASSERT_NE(NULL, changes);
	for (uint32_t i = 0; i < many; i++)
		changes[i] = (struct vfio_pgsize_state){
			AT + i % 2048 * PAGE, PAGE, i / 2048 % 2 ? SHARED : PRIVATE,
		};
	EXPECT_EQ(0, set_state(self->vmm.container, changes, &nr));
	EXPECT_EQ(many, nr);
	for (uint32_t i = 0; i < many; i++)
		ASSERT_SOUND(pages_note(&self->pages,
					CHANGES({ i % 2048 * PAGE, PAGE, changes[i].state })));
	EXPECT_SOUND(pages_agree(&self->pages));
	free(changes);
}

/* --- memory ---------------------------------------------------------------- */

/* Memory that is missing in part. */

#define MAP(state) \
	ASSERT_SOUND(pages_map(&self->pages, &self->vmm, AT, &self->memory, UPTO_2M, state))
#define FAILS(error, done, ...) do {						\
	EXPECT_SOUND(pages_batch_fails(&self->pages, CHANGES(__VA_ARGS__), error, done)); \
	EXPECT_SOUND(pages_agree(&self->pages));				\
} while (0)

TEST_F_TIMEOUT(page_memory, missing, TIMEOUT)
{
	static const enum backing backings[] = { ANON_4K, THP, HUGETLB_2M };

	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		uint64_t hole = backings[i] == HUGETLB_2M ? MIB(2) : PAGE, at = MIB(4) - hole;

		ASSERT_SOUND(memory_alloc(&self->memory, backings[i], SIZE));
		ASSERT_EQ(0, mprotect(self->memory.va + at, hole, PROT_NONE));
		MAP(PRIVATE);
		FAILS(EFAULT, 1, { PAGE, PAGE, SHARED }, { MIB(1), MIB(4), SHARED },
		      { MIB(6), PAGE, SHARED });
		/* Some of the failing range is shared already: it stays so. */
		ASSERT_SOUND(pages_set(&self->pages, MIB(1), KIB(256), SHARED));
		ASSERT_SOUND(pages_set(&self->pages, MIB(6), MIB(2), SHARED));
		FAILS(EFAULT, 0, { 0, SIZE, SHARED });
		/* Read-only, and the device may write. */
		ASSERT_EQ(0, mprotect(self->memory.va + at, hole, PROT_READ));
		FAILS(EFAULT, 0, { 0, SIZE, SHARED });
		FAILS(EFAULT, 2, { PAGE, PAGE, PRIVATE }, { MIB(7), PAGE, PRIVATE },
		      { at, PAGE, SHARED });
		ASSERT_EQ(0, mprotect(self->memory.va + at, hole, PROT_READ | PROT_WRITE));
		ASSERT_SOUND(pages_set(&self->pages, 0, SIZE, SHARED));
		EXPECT_SOUND(pages_agree(&self->pages));
		ASSERT_SOUND(pages_unmap(&self->pages));
		pages_free(&self->pages);
		memory_free(&self->memory);
	}
}

/* A file that is shorter than its mapping, and grows. */
TEST_F_TIMEOUT(page_memory, beyond_the_file, TIMEOUT)
{
	int fd = memfd_create("short", 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, MIB(3)));
	self->memory.size = SIZE;
	self->memory.va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, self->memory.va);
	MAP(PRIVATE);
	FAILS(EFAULT, 1, { MIB(3) - PAGE, PAGE, SHARED }, { MIB(3) - PAGE, 2 * PAGE, SHARED });
	FAILS(EFAULT, 0, { 0, SIZE, SHARED });
	ASSERT_EQ(0, ftruncate(fd, SIZE));
	ASSERT_SOUND(pages_set(&self->pages, 0, SIZE, SHARED));
	EXPECT_SOUND(pages_agree(&self->pages));
	EXPECT_SOUND(vmm_moves_bytes(&self->vmm, 0, AT, self->memory.va, SIZE));
	close(fd);
}

/* Another device's registers within the memory have no state. */
TEST_F_TIMEOUT(page_memory, registers, TIMEOUT)
{
	struct edu *peer;
	void *at;

	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	peer = &self->vmm.devices[1].edu;
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, MIB(4)));
	at = self->memory.va + MIB(1);
	ASSERT_EQ(at, mremap((void *)peer->registers, EDU_BAR_SIZE, EDU_BAR_SIZE,
			     MREMAP_MAYMOVE | MREMAP_FIXED, at));
	peer->registers = at;
	MAP(PRIVATE);
	FAILS(EFAULT, 1, { 0, MIB(1), SHARED }, { MIB(1) - PAGE, 2 * PAGE, SHARED });
	FAILS(EFAULT, 0, { 0, MIB(4), SHARED });
	FAILS(EFAULT, 0, { MIB(1), PAGE, SHARED });
	ASSERT_SOUND(pages_set(&self->pages, MIB(2), MIB(2), SHARED));
	EXPECT_SOUND(pages_agree(&self->pages));
}

/* Only shared pages count, and a page beyond the limit is refused. */
TEST_F_TIMEOUT(page_memory, memlock_limit, TIMEOUT)
{
	static const enum backing backings[] = { ANON_4K, THP, HUGETLB_2M, MEMFD };

	ASSERT_SOUND(account_limit(MIB(4) / PAGE));
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		ASSERT_SOUND(memory_alloc(&self->memory, backings[i], SIZE));
		EXPECT_EQ(-ENOMEM, dma_map(self->vmm.container, AT, self->memory.va, SIZE,
					   READ_WRITE | STATEFUL | VFIO_PGSIZE_MAP_SHARED));
		EXPECT_SOUND(vmm_has_nothing(&self->vmm));
		MAP(PRIVATE);
		FAILS(ENOMEM, 0, { 0, SIZE, SHARED });
		FAILS(ENOMEM, 1, { MIB(1), MIB(4), SHARED }, { 0, PAGE, SHARED });
		FAILS(ENOMEM, 3, { MIB(1), PAGE, PRIVATE }, { MIB(6), PAGE, SHARED },
		      { MIB(2), MIB(1), SHARED }, { MIB(7), PAGE, SHARED });
		/* Pages that are already shared are already charged. */
		ASSERT_SOUND(pages_set(&self->pages, MIB(2), MIB(3), SHARED));
		EXPECT_SOUND(pages_agree(&self->pages));
		ASSERT_SOUND(pages_unmap(&self->pages));
		EXPECT_SOUND(account_rose(&self->vmm.before, 0, 0));
		pages_free(&self->pages);
		memory_free(&self->memory);
	}
}

/* A message for each call, but rate limited. */
TEST_F_TIMEOUT(page_memory, memlock_warning, TIMEOUT)
{
	const int calls = 100, burst = 10, interval = 5;
	struct kernel_log log;
	time_t start;

	ASSERT_SOUND(account_limit(8));
	ASSERT_SOUND(memory_alloc(&self->memory, ANON_4K, SIZE));
	MAP(PRIVATE);
	/* Earlier messages no longer count. */
	sleep(interval + 1);
	for (int i = 1; i <= 3; i++) {
		ASSERT_SOUND(kernel_log_start(&log));
		FAILS(ENOMEM, 4, { 0, PAGE, SHARED }, { PAGE, 2 * PAGE, SHARED },
		      { MIB(1), 4 * PAGE, SHARED }, { MIB(4), PAGE, SHARED },
		      { MIB(2), PAGE, SHARED }, { MIB(3), PAGE, SHARED });
		kernel_log_read(&log);
		EXPECT_EQ(1, log.memlock_warnings);
		kernel_log_stop(&log);
	}
	ASSERT_SOUND(kernel_log_start(&log));
	start = wait_now();
	for (int i = 0; i < calls; i++)
		EXPECT_SOUND(pages_batch_fails(&self->pages, CHANGES({ MIB(2), PAGE, SHARED }),
					       ENOMEM, 0));
	kernel_log_read(&log);
	EXPECT_GE(burst * ((wait_now() - start) / interval + 2), log.memlock_warnings);
	kernel_log_stop(&log);
}

TEST_PROGRAM("Gives page states each kind of bad input and checks how far they get.")
