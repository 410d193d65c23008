// SPDX-License-Identifier: GPL-2.0
/*
 * The debugfs files of a container: its policy, its leaves, its counters, its owner, for root only and
 * as long as the container exists, whatever happens to it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "module.h"
#include "text.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

#define ROOT	"/sys/kernel/debug/vfio_pgsize"
#define AT	GIB(1)
#define SIZE	MIB(8)
/* Containers that come and go while others read: minimum number, and seconds. */
#define ROUNDS	6
#define SECONDS	10

static const char *const files[] = { "policy", "leaves", "counters", "owner", "mismatches" };
/* Without an RMP the last one cannot be read. */
#define READABLE	4

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

	EXPECT_SOUND(says(self->container, "policy", "first last sizes follow\n"
			  "0x0 0xffffffffffffffff 0xffffffffffffffff no\n"));
	EXPECT_SOUND(says(self->container, "leaves", "domain size leaves\n"));
	ASSERT_SOUND(vmm_policy(&self->vmm, 0, UPTO_2M));
	ASSERT_EQ(0, policy_set(container, VFIO_PGSIZE_POLICY_RANGE, AT, MIB(2), ONLY_4K));
	EXPECT_SOUND(says(self->container, "policy",
			  "first last sizes follow\n"
			  "0x0 0x3fffffff 0x201000 no\n"
			  "0x40000000 0x401fffff 0x1000 no\n"
			  "0x40200000 0xffffffffffffffff 0x201000 no\n"));
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(says(self->container, "leaves",
			  "domain size leaves\n0 0x1000 512\n0 0x200000 3\n"));
	EXPECT_SOUND(says(self->container, "counters",
			  "splits 0\nmerges 0\nfallbacks 0\nrepairs 0\nmissed 0\nmismatches 0\n"
			  "shared 0\nstateful 0\njoined 0\njoined_entries 0\n"));
}

/* GET_INFO returns the number that names the directory. */
TEST_F_TIMEOUT(debugfs, number, TIMEOUT)
{
	struct info info;
	struct vmm other;

	ASSERT_SOUND(container_info(self->vmm.container, &info));
	EXPECT_EQ(self->container, info.policy.container);
	ASSERT_SOUND(vmm_open_with(&other, VFIO_PGSIZE_IOMMU, 1, 1));
	ASSERT_SOUND(container_info(other.container, &info));
	EXPECT_EQ(self->container + 1, info.policy.container);
	EXPECT_SOUND(vmm_close(&other));
}

/* --- whose it is ------------------------------------------------------------------ */

/* What `owner` says of a container with these devices of the VMM, in one domain. */
static const char *owned(struct vmm *vmm, pid_t pid, const char *command, int devices)
{
	static char text[512];
	int length = snprintf(text, sizeof(text),
			      "pid %d%s\ncommand %s\ntype pgsize\npolicy default\n", pid,
			      kill(pid, 0) ? " exited" : "", command);

	for (int i = vmm->first; i < vmm->first + devices; i++) {
		char link[128], target[128] = "";

		snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group",
			 vmm->devices[i].bdf);
		if (readlink(link, target, sizeof(target) - 1) < 0)
			return "no group";
		length += snprintf(text + length, sizeof(text) - length,
				   "group %s domain 0 device %s\n", strrchr(target, '/') + 1,
				   vmm->devices[i].bdf);
	}
	return text;
}

TEST_F_TIMEOUT(debugfs, owner, TIMEOUT)
{
	/* Each can be the name of a process. */
	static const char *const names[][2] = {
		{ "a vmm", "a vmm" },
		{ "evil\npid 1", "evil\\npid 1" },
		{ "\x1b[2J\xff", "\\x1b[2J\\xff" },
		{ "fifteen letters", "fifteen letters" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		ASSERT_EQ(0, prctl(PR_SET_NAME, names[i][0]));
		EXPECT_SOUND(says(self->container, "owner",
				  owned(&self->vmm, getpid(), names[i][1], 1)));
	}
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	EXPECT_SOUND(says(self->container, "owner", owned(&self->vmm, getpid(), names[3][1], 2)));
	vmm_detach(&self->vmm, 1);
	EXPECT_SOUND(says(self->container, "owner", owned(&self->vmm, getpid(), names[3][1], 1)));
}

/* A thread sets the IOMMU: its process owns the container. A name is read when it is asked for. */
static void *open_as_thread(void *vmm)
{
	prctl(PR_SET_NAME, "a thread");
	return (void *)vmm_open_with(vmm, VFIO_PGSIZE_IOMMU, 1, 1);
}

TEST_F_TIMEOUT(debugfs, owner_is_process, TIMEOUT)
{
	unsigned long number;
	pthread_t thread;
	struct vmm other;
	void *wrong;

	ASSERT_EQ(0, prctl(PR_SET_NAME, "a process"));
	ASSERT_EQ(0, pthread_create(&thread, NULL, open_as_thread, &other));
	ASSERT_EQ(0, pthread_join(thread, &wrong));
	ASSERT_SOUND((problem)wrong);
	ASSERT_EQ(2, shown(&number));
	EXPECT_SOUND(says(number, "owner", owned(&other, getpid(), "a process", 1)));
	ASSERT_EQ(0, prctl(PR_SET_NAME, "renamed"));
	EXPECT_SOUND(says(number, "owner", owned(&other, getpid(), "renamed", 1)));
	EXPECT_SOUND(vmm_close(&other));
}

/* The process that set the IOMMU is gone, but another one has the container. */
TEST_F_TIMEOUT(debugfs, owner_exited, TIMEOUT)
{
	struct wait wait = {};
	struct vmm said = {};
	unsigned long number;
	int container, group;
	pid_t child;
	int status;

	ASSERT_SOUND(edu_find(0, said.devices[0].bdf));
	EXPECT_SOUND(vmm_close(&self->vmm));
	container = container_open();
	ASSERT_LE(0, container);
	do {
		group = group_open(said.devices[0].bdf);
	} while (group == -EBUSY && wait_more(&wait, MOMENT));
	ASSERT_LE(0, group);
	child = fork();
	if (!child) {
		prctl(PR_SET_NAME, "short-lived");
		_exit(group_join(group, container) ||
		      container_set_type(container, VFIO_PGSIZE_IOMMU));
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(1, shown(&number));
	EXPECT_SOUND(says(number, "owner", owned(&said, child, "short-lived", 1)));
	close(group);
	close(container);
	ASSERT_SOUND(vmm_open(&self->vmm, VFIO_PGSIZE_IOMMU, 1));
}

/* This is no SNP host: there is no audit. */
TEST_F_TIMEOUT(debugfs, nothing_to_audit, TIMEOUT)
{
	EXPECT_EQ(NULL, read_of(self->container, "mismatches"));
	EXPECT_EQ(EOPNOTSUPP, errno);
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
	/* A header, and the segments. */
	EXPECT_EQ(1 + 2 * 1024 + 1, lines);
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
		for (size_t i = 0; i < READABLE; i++) {
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
