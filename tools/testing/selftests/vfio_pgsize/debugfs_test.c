// SPDX-License-Identifier: GPL-2.0
/*
 * The debugfs files of a container: its policy, its leaves, its counters, for root only and as long
 * as the container exists, whatever happens to it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "module.h"
#include "text.h"
#include "units.h"
#include "vmm.h"

#define ROOT	"/sys/kernel/debug/vfio_pgsize"
#define AT	GIB(1)
#define SIZE	MIB(8)
/* Containers that come and go while others read: minimum number, and seconds. */
#define ROUNDS	6
#define SECONDS	10

static const char *const files[] = { "policy", "leaves", "counters" };

/* The number of containers shown. Stores the greatest number of one in *last. */
static int shown(unsigned long *last)
{
	DIR *dir = opendir(ROOT);
	struct dirent *entry;
	int count = 0;

	if (!dir)
		return -1;
	*last = 0;
	while ((entry = readdir(dir))) {
		unsigned long id;

		if (sscanf(entry->d_name, "%lu", &id) != 1)
			continue;
		*last = id > *last ? id : *last;
		count++;
	}
	closedir(dir);
	return count;
}

static char *read_of(unsigned long container, const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), ROOT "/%lu/%s", container, file);
	return text_read(path);
}

static problem says(unsigned long container, const char *file, const char *expected)
{
	char *text = read_of(container, file);
	problem wrong = NULL;

	if (!text)
		return problem_is("%s: %m", file);
	if (strcmp(text, expected))
		wrong = problem_is("%s says\n%snot\n%s", file, text, expected);
	free(text);
	return wrong;
}

FIXTURE(debugfs) {
	struct vmm vmm;
	struct memory memory;
	unsigned long container;
};

FIXTURE_SETUP(debugfs)
{
	unsigned long last;

	ASSERT_SOUND(module_require(""));
	ASSERT_EQ(0, shown(&last));
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, SIZE));
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	ASSERT_EQ(1, shown(&self->container));
}

FIXTURE_TEARDOWN(debugfs)
{
	unsigned long last;

	EXPECT_SOUND(vmm_close(&self->vmm));
	EXPECT_EQ(0, shown(&last));
	memory_free(&self->memory);
	huge_pages_release();
}

TEST_F_TIMEOUT(debugfs, contents, TIMEOUT)
{
	int container = self->vmm.container;

	EXPECT_SOUND(says(self->container, "policy", "0x0 0xffffffffffffffff 0xffffffffffffffff\n"));
	EXPECT_SOUND(says(self->container, "leaves", ""));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(container, VFIO_PGSIZE_POLICY_RANGE, AT, MIB(2), ONLY_4K));
	EXPECT_SOUND(says(self->container, "policy",
			  "0x0 0x3fffffff 0x201000\n"
			  "0x40000000 0x401fffff 0x1000\n"
			  "0x40200000 0xffffffffffffffff 0x201000\n"));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(says(self->container, "leaves", "0 0x1000 512\n0 0x200000 3\n"));
	EXPECT_SOUND(says(self->container, "counters",
			  "splits 0\nmerges 0\nfallbacks 0\nrepairs 0\nmissed 0\nmismatches 0\n"
			  "shared 0\nstateful 0\njoined 0\njoined_entries 0\n"));
}

/* As many lines as there can be segments. */
TEST_F_TIMEOUT(debugfs, long_policy, TIMEOUT)
{
	char *text;
	int lines = 0;

	for (int i = 0; i < 1024; i++)
		ASSERT_EQ(0, policy_set(self->vmm.container, VFIO_PGSIZE_POLICY_RANGE,
					AT + 2 * i * PAGE, PAGE, ONLY_4K));
	text = read_of(self->container, "policy");
	ASSERT_NE(NULL, text);
	for (char *at = text; (at = strchr(at, '\n')); at++)
		lines++;
	EXPECT_EQ(2 * 1024 + 1, lines);
	free(text);
}

/* Only root can read. */
TEST_F_TIMEOUT(debugfs, root_only, TIMEOUT)
{
	char path[128];
	struct stat stat_;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		pid_t child;
		int status;

		snprintf(path, sizeof(path), ROOT "/%lu/%s", self->container, files[i]);
		ASSERT_EQ(0, stat(path, &stat_));
		EXPECT_EQ(0400, stat_.st_mode & 07777);
		EXPECT_EQ(0, stat_.st_uid);
		child = fork();
		if (!child)
			_exit(setuid(65534) || open(path, O_RDONLY) >= 0 || errno != EACCES);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(0, status);
	}
}

/* Reading an open file fails after its container goes. */
TEST_F_TIMEOUT(debugfs, held_open, TIMEOUT)
{
	int fds[ARRAY_SIZE(files)];
	char path[128], byte;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), ROOT "/%lu/%s", self->container, files[i]);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, fds[i]);
	}
	EXPECT_SOUND(vmm_close(&self->vmm));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		EXPECT_EQ(-1, read(fds[i], &byte, 1));
		EXPECT_EQ(EIO, errno);
		close(fds[i]);
	}
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

/* --- read while containers come and go -------------------------------------------- */

struct reader {
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong reads;
};

static void *read_all(void *arg)
{
	struct reader *reader = arg;

	while (!reader->stop) {
		unsigned long container;

		if (shown(&container) <= 0)
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
			char *text = read_of(container, files[i]);

			reader->reads += !!text;
			free(text);
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(debugfs, meanwhile, TIMEOUT)
{
	struct reader readers[2] = {};
	time_t start = time(NULL);
	int round;

	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&readers[i].thread, NULL, read_all, &readers[i]));
	for (round = 0;
	     round < ROUNDS || time(NULL) - start < SECONDS || readers[0].reads < ROUNDS ||
	     readers[1].reads < ROUNDS;
	     round++) {
		ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
		ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K));
		ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, ANY_SIZE));
		if (round % 2)
			ASSERT_SOUND(dma_unmap_exactly(self->vmm.container, AT, SIZE));
		ASSERT_SOUND(vmm_close(&self->vmm));
		ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
	}
	for (int i = 0; i < 2; i++) {
		readers[i].stop = true;
		pthread_join(readers[i].thread, NULL);
		EXPECT_LE(ROUNDS, readers[i].reads);
	}
	TH_LOG("%d containers, %lu and %lu reads", round, readers[0].reads, readers[1].reads);
	EXPECT_EQ(1, shown(&self->container));
}

TEST_PROGRAM("debugfs shows each container, to root, as long as it is there.")
