// SPDX-License-Identifier: GPL-2.0
/*
 * Events of the host while leaves follow: SNP goes off and on again, unassigned entries have
 * stale sizes, the IOMMU does not answer, and it caches tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "module.h"
#include "scene.h"
#include "wait.h"

#define SIZE	MIB(16)

/* Milliseconds to wait for a signal, and for the absence of one. */
#define SOON	(PATIENCE * 1000)
#define LONG	3500

/* How often SNP goes off while calls are made, at least. */
#define SWITCHES	20

#define RMP_4K	VFIO_PGSIZE_RUN_RMP_4K
#define RMP_2M	VFIO_PGSIZE_RUN_RMP_2M
#define ASSIGNED VFIO_PGSIZE_RUN_ASSIGNED

FIXTURE(host) {
	struct vmm vmm;
	struct memory memory;
	struct device device;
	struct guest guest;
	int event;
	int log;
};

FIXTURE_SETUP(host)
{
	ASSERT_SOUND(module_require(""));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, &self->device, SIZE));
	self->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT_LE(0, self->event);
	ASSERT_EQ(0, event_set(self->vmm.container, self->event));
	self->log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, self->log);
	lseek(self->log, 0, SEEK_END);
}

FIXTURE_TEARDOWN(host)
{
	/* Pages are taken back by RMPUPDATE. */
	EXPECT_SOUND(guest_switch(&self->guest, SNP_HOST_CPU_ON, ALL_CPUS));
	EXPECT_SOUND(guest_stop_queue(&self->guest, false));
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, &self->device));
	close(self->event);
	close(self->log);
}

/* The number of signals within this many milliseconds of the first. */
static uint64_t signals(int event, int within)
{
	struct pollfd poll_event = { .fd = event, .events = POLLIN };
	uint64_t count = 0;

	if (poll(&poll_event, 1, within) == 1)
		poll(NULL, 0, LONG);
	if (read(event, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

static bool is_logged(int log, const char *text)
{
	char record[8192];
	bool found = false;

	for (;;) {
		ssize_t length = read(log, record, sizeof(record) - 1);

		if (length < 0 && errno == EPIPE)
			continue;
		if (length <= 0)
			return found;
		record[length] = '\0';
		found |= !!strstr(record, text);
	}
}

/* The flags of the leaf at an address, without permissions; ~0: the call failed. */
static uint32_t said_of(int container, uint64_t iova)
{
	struct vfio_pgsize_run run;
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.flags = VFIO_PGSIZE_QUERY_RMP,
		.iova = iova,
		.size = PAGE,
		.nr = 1,
		.runs = (uintptr_t)&run,
	};

	if (ioctl(container, VFIO_PGSIZE_QUERY, &query) || query.nr != 1)
		return ~0U;
	return run.flags & ~READ_WRITE;
}

#define SWITCH(op) ASSERT_SOUND(guest_switch(&self->guest, op, ALL_CPUS))

/* --- SNP goes off ------------------------------------------------------------- */

/* The state before SNP was ever on. */
TEST_F_TIMEOUT(host, off_before, TIMEOUT)
{
	int container = self->vmm.container;

	SWITCH(SNP_HOST_CPU_OFF);
	EXPECT_EQ(-EOPNOTSUPP, policy_of_all(container, SPLIT, UPTO_2M));
	EXPECT_EQ(-EOPNOTSUPP, policy_set(container, VFIO_PGSIZE_POLICY_RANGE | FOLLOW, AT, SIZE,
					  UPTO_2M));
	EXPECT_FALSE(follow_is_hooked());
	POLICY(0);
	MAP(AT);
	SMALL(0);
	SWITCH(SNP_HOST_CPU_ON);
	POLICY(FOLLOW);
	EXPECT_TRUE(follow_is_hooked());
	ASSIGN(PAGE_OF(3, 1));
	SMALL(BIT(3));
}

TEST_F_TIMEOUT(host, off_and_on, TIMEOUT)
{
	int container = self->vmm.container;
	struct vfio_pgsize_stats stats;

	POLICY(SPLIT);
	MAP(AT);
	ASSIGN(PAGE_OF(3, 1));
	SMALL(BIT(3));
	EXPECT_EQ(ASSIGNED | RMP_4K, said_of(container, AT + PAGE_OF(3, 1)));
	EXPECT_EQ(0, signals(self->event, LONG));

	/* One signal, and everything continues. */
	SWITCH(SNP_HOST_CPU_OFF);
	ASSERT_SOUND(guest_switch(&self->guest, SNP_HOST_IOMMU_OFF, 0));
	EXPECT_EQ(1, signals(self->event, SOON));
	EXPECT_TRUE(is_logged(self->log, "SNP was disabled"));
	EXPECT_EQ(0, said_of(container, AT + PAGE_OF(3, 1)));
	EXPECT_SOUND(follow_agrees(&self->vmm, 1));
	SMALL(BIT(3));
	WORKS(PAGE_OF(3, 2));
	ASSERT_SOUND(dma_unmap_exactly(container, AT, SIZE));
	MAP(AT);
	SMALL(0);
	WORKS(PAGE_OF(3, 2));
	EXPECT_EQ(-EOPNOTSUPP, policy_of_all(container, SPLIT, UPTO_2M));
	EXPECT_EQ(0, signals(self->event, 0));

	/* SNP is on again, and the leaves are checked. */
	STATS(&stats);
	EXPECT_EQ(0, stats.mismatches);
	SWITCH(SNP_HOST_CPU_ON);
	SMALL_SOON(BIT(3));
	STATS(&stats);
	EXPECT_EQ(1, stats.mismatches);
	EXPECT_EQ(1, signals(self->event, SOON));
	EXPECT_EQ(ASSIGNED | RMP_4K, said_of(container, AT + PAGE_OF(3, 1)));
	ASSIGN(PAGE_OF(5, 1));
	SMALL(BIT(3) | BIT(5));
	POLICY(SPLIT);
}

/* What was split is merged when nothing requires the split any more. */
TEST_F_TIMEOUT(host, off_merges, TIMEOUT)
{
	POLICY(FOLLOW);
	MAP(AT);
	ASSIGN(PAGE_OF(3, 1));
	SMALL(BIT(3));
	ASSERT_SOUND(guest_switch(&self->guest, SNP_HOST_IOMMU_OFF, 0));
	SWITCH(SNP_HOST_CPU_OFF);
	SMALL_SOON(0);
	WORKS(PAGE_OF(3, 2));
	EXPECT_EQ(1, signals(self->event, SOON));
}

struct switcher {
	struct guest *guest;
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong switched;
	problem wrong;
};

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Processor 1 continuously switches SNP of processor 0 off and on. */
static void *toggle(void *arg)
{
	struct switcher *switcher = arg;

	run_on(1);
	while (!switcher->stop && !switcher->wrong) {
		switcher->wrong = guest_switch(switcher->guest, SNP_HOST_CPU_OFF, 1);
		poll(NULL, 0, 50);
		if (!switcher->wrong)
			switcher->wrong = guest_switch(switcher->guest, SNP_HOST_CPU_ON, 1);
		poll(NULL, 0, 150);
		switcher->switched++;
	}
	return NULL;
}

/* Map, query, policy and worker continue at whatever point SNP goes off. */
TEST_F_TIMEOUT(host, off_meanwhile, TIMEOUT)
{
	struct snp_host_raw rmpread = { .insn = SNP_HOST_RMPREAD, .spa = MIB(1) };
	struct switcher switcher = { .guest = &self->guest };
	struct wait wait = {};
	struct timespec begin, now;
	unsigned long rounds = 0, refused = 0, followed = 0;
	int container = self->vmm.container;
	time_t seconds;
	int ret;

	POLICY(FOLLOW);
	MAP(AT);
	run_on(0);
	ASSERT_EQ(0, pthread_create(&switcher.thread, NULL, toggle, &switcher));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		ASSERT_SOUND(vmm_map(&self->vmm, AT_TOO, self->memory.va, SIZE, READ_WRITE));
		EXPECT_SOUND(follow_agrees(&self->vmm, 1));
		EXPECT_NE(~0U, said_of(container, AT_TOO));
		ASSERT_SOUND(dma_unmap_exactly(container, AT_TOO, SIZE));
		ret = policy_of_all(container, FOLLOW, UPTO_2M);
		EXPECT_TRUE(!ret || ret == -EOPNOTSUPP);
		refused += ret != 0;
		followed += !ret;
		rounds++;
		clock_gettime(CLOCK_MONOTONIC, &now);
		seconds = now.tv_sec - begin.tv_sec;
	} while (seconds < 8 || (seconds < PATIENCE && (followed < 2 || !refused ||
							 switcher.switched <= SWITCHES)));
	switcher.stop = true;
	pthread_join(switcher.thread, NULL);
	EXPECT_SOUND(switcher.wrong);
	printf("# %lu rounds while SNP went off %lu times; a policy was refused %lu times, and not %lu times\n",
	       rounds, switcher.switched, refused, followed);
	EXPECT_LT(SWITCHES, switcher.switched);
	EXPECT_LT(0, refused);
	EXPECT_LT(1, followed);
	/* Without RMPREAD the check once a second finds it off, or on again. */
	if (guest_execute(&self->guest, &rmpread) != SNP_HOST_UNDEFINED)
		EXPECT_LT(0, signals(self->event, SOON));
	/* It is on, and is found on. */
	do {
		ret = policy_of_all(container, FOLLOW, UPTO_2M);
	} while (ret && wait_more(&wait, 10 * MOMENT));
	EXPECT_EQ(0, ret);
	ASSIGN(PAGE_OF(3, 1));
	SMALL_SOON(BIT(3));
	SHARE(PAGE_OF(3, 1));
	SMALL_SOON(0);
}

/* --- the IOMMU ------------------------------------------------------------------ */

/* A flush without an answer of the IOMMU is logged, and the call continues. */
TEST_F_TIMEOUT(host, no_answer, TIMEOUT)
{
	const char *text = "vfio_pgsize: a flush took";
	uint64_t small = BIT(7);
	bool logged = false;

	POLICY(FOLLOW);
	MAP(AT);
	for (int piece = 3; piece <= 7; piece++)
		ASSERT_SOUND(guest_assign(&self->guest, PIECE(piece), true));
	ASSERT_SOUND(guest_smash(&self->guest, PIECE(7)));
	/* The kernel logs ten in five seconds, and flushes that a busy host made slow are among them. */
	for (int piece = 3; piece < 7 && !logged; piece++) {
		if (piece > 3)
			sleep(6);
		is_logged(self->log, text);
		ASSERT_SOUND(guest_stop_queue(&self->guest, true));
		ASSERT_SOUND(guest_smash(&self->guest, PIECE(piece)));
		ASSERT_SOUND(guest_stop_queue(&self->guest, false));
		small |= BIT(piece);
		logged = is_logged(self->log, text);
		printf("# a flush of piece %d: %slogged\n", piece, logged ? "" : "not ");
	}
	EXPECT_TRUE(logged);
	SMALL(small);
	SHARE(PAGE_OF(3, 1));
	WORKS(PAGE_OF(3, 1));
}

/*
 * The IOMMU does not walk a table that a merge retired, whether the table still has its old
 * contents or is zeroed in the reserve.
 */
TEST_F_TIMEOUT(host, table_forgotten, TIMEOUT)
{
	POLICY(FOLLOW);
	MAP(AT);
	ASSIGN(PAGE_OF(3, 1));
	SMALL(BIT(3));
	/* The IOMMU caches the table. */
	WORKS(PAGE_OF(3, 2));
	SHARE(PAGE_OF(3, 1));
	SMALL_SOON(0);
	for (int page = 8; page < 200; page++) {
		uint64_t at = PAGE_OF(3, page);

		/* None of these is in the IOTLB. */
		ASSERT_SOUND(device_works(&self->device, AT + at, self->memory.va + at));
	}
	ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(vmm_fetch_faults(&self->vmm, 0, AT + PAGE_OF(3, 2)));
	EXPECT_SOUND(vmm_store_faults(&self->vmm, 0, AT + PAGE_OF(3, 7)));
}

/* --- stale sizes; last, because they stay ------------------------------------------- */

TEST_F_TIMEOUT(host, left_over_sizes, TIMEOUT)
{
	int container = self->vmm.container;

	ASSERT_SOUND(guest_switch(&self->guest, SNP_HOST_LEFTOVERS, 0));
	POLICY(FOLLOW);
	/* Broken before it is mapped, by its first page, by another, and whole. */
	ASSIGN(PAGE_OF(1, 0));
	ASSIGN(PAGE_OF(2, 9));
	ASSERT_SOUND(guest_assign(&self->guest, PIECE(3), true));
	MAP(AT);
	SMALL(BIT(1) | BIT(2));
	EXPECT_SOUND(follow_agrees(&self->vmm, 1));
	EXPECT_EQ(RMP_4K, said_of(container, AT));
	EXPECT_EQ(RMP_4K | ASSIGNED, said_of(container, AT + PAGE_OF(1, 0)));
	EXPECT_EQ(RMP_4K, said_of(container, AT + PAGE_OF(1, 1)));
	EXPECT_EQ(RMP_4K, said_of(container, AT + PAGE_OF(2, 0)));
	EXPECT_EQ(RMP_4K | ASSIGNED, said_of(container, AT + PAGE_OF(2, 9)));
	EXPECT_EQ(RMP_2M | ASSIGNED, said_of(container, AT + PAGE_OF(3, 9)));
	WORKS(PAGE_OF(2, 1));
	/* A merge waits until the last page is shared. */
	ASSIGN(PAGE_OF(2, 10));
	SHARE(PAGE_OF(2, 9));
	poll(NULL, 0, LONG);
	SMALL(BIT(1) | BIT(2));
	SHARE(PAGE_OF(2, 10));
	SHARE(PAGE_OF(1, 0));
	SMALL_SOON(0);
	WORKS(PAGE_OF(2, 1));
}

TEST_PROGRAM("What happens to an SNP host while leaves follow its RMP.")
