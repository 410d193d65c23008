// SPDX-License-Identifier: GPL-2.0
/*
 * What an operator sees when following the RMP fails, or nothing follows: warnings with process and
 * devices, limited in number, and the audit of debugfs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "harness.h"
#include "module.h"
#include "scene.h"
#include "text.h"
#include "wait.h"

#define SIZE	MIB(16)

FIXTURE(warn) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
	struct kernel_log log;
	unsigned long long number;
};

FIXTURE_SETUP(warn)
{
	struct info info;

	/* Loading it resets the limits. */
	ASSERT_SOUND(module_require_none());
	ASSERT_SOUND(module_load(""));
	ASSERT_EQ(0, prctl(PR_SET_NAME, "a vmm"));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, NULL, SIZE));
	ASSERT_SOUND(container_info(self->vmm.container, &info));
	self->number = info.policy.container;
	ASSERT_SOUND(kernel_log_start(&self->log));
}

FIXTURE_TEARDOWN(warn)
{
	kernel_log_stop(&self->log);
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, NULL));
}

/* Whether such a warning of the container comes, as often as this, with process and devices. */
static problem warned(FIXTURE_DATA(warn) *self, const char *what, int times)
{
	struct wait wait = {};
	char text[256];

	snprintf(text, sizeof(text), "vfio_pgsize: container %llu, process %d (a vmm), %s%s%s: %s",
		 self->number, getpid(), self->vmm.devices[0].bdf,
		 self->vmm.devices[1].group < 0 ? "" : " ",
		 self->vmm.devices[1].group < 0 ? "" : self->vmm.devices[1].bdf, what);
	self->log.wanted = text;
	do {
		/* From the start of the log. */
		lseek(self->log.fd, 0, SEEK_SET);
		self->log.seen = 0;
		kernel_log_read(&self->log);
	} while (self->log.seen < times && wait_more(&wait, MOMENT));
	self->log.wanted = NULL;
	if (self->log.seen != times)
		return problem_is("\"%s\" is in the log %d times, not %d", text, self->log.seen,
				  times);
	return NULL;
}

/* Nothing follows; the VMM asks, and the log gets to know. Two devices, too. */
TEST_F_TIMEOUT(warn, mismatch, TIMEOUT)
{
	POLICY(0);
	MAP(AT);
	ASSIGN(PAGE_OF(3, 7));
	ASSERT_EQ(1, follow_mismatches(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(warned(self, "findings of leaves that disagree with the RMP: 1;", 1));
	ASSERT_SOUND(vmm_attach(&self->vmm, 1));
	ASSIGN(PAGE_OF(5, 7));
	ASSERT_EQ(2, follow_mismatches(self->vmm.container, AT, SIZE));
	EXPECT_SOUND(warned(self, "findings of leaves that disagree with the RMP: 2;", 1));
}

TEST_F_TIMEOUT(warn, missed, TIMEOUT)
{
	POLICY(FOLLOW);
	MAP(AT);
	ASSERT_SOUND(guest_miss(&self->guest, true));
	ASSIGN(PAGE_OF(5, 7));
	EXPECT_SOUND(warned(self, "changes of the RMP not reported: 1;", 1));
	EXPECT_SOUND(warned(self, "findings of leaves that disagree with the RMP: 1;", 1));
	/* A container that follows later did not miss it. */
	POLICY(0);
	POLICY(FOLLOW);
	ASSIGN(PAGE_OF(6, 7));
	EXPECT_SOUND(warned(self, "changes of the RMP not reported: 1;", 2));
	ASSERT_SOUND(guest_miss(&self->guest, false));
}

#define FEW	16
#define MANY	40

/* A VMM cannot flood the log. */
TEST_F_TIMEOUT(warn, limited, TIMEOUT)
{
	POLICY(0);
	MAP(AT);
	ASSIGN(PAGE_OF(3, 7));
	kernel_log_read(&self->log);
	self->log.wanted = "disagree with the RMP";
	self->log.seen = 0;
	for (int i = 0; i < MANY; i++) {
		ASSERT_EQ(1, follow_mismatches(self->vmm.container, AT, SIZE));
		usleep(MOMENT);
	}
	kernel_log_read(&self->log);
	EXPECT_LT(0, self->log.seen);
	/* Ten a minute. */
	EXPECT_GT(FEW, self->log.seen);
}

/* --- the audit by debugfs ------------------------------------------------------------ */

static problem says(FIXTURE_DATA(warn) *self, const char *expected)
{
	problem wrong = NULL;
	char path[128];
	char *text;

	snprintf(path, sizeof(path), "/sys/kernel/debug/vfio_pgsize/%llu/mismatches", self->number);
	text = text_read(path);
	if (!text)
		return problem_is("%s: %m", path);
	if (strcmp(text, expected))
		wrong = problem_is("%s says\n%snot\n%s", path, text, expected);
	free(text);
	return wrong;
}

#define HEADER	"domain iova bytes size\n"

TEST_F_TIMEOUT(warn, debugfs, TIMEOUT)
{
	struct vfio_pgsize_stats stats;

	POLICY(0);
	EXPECT_SOUND(says(self, HEADER));
	MAP(AT);
	/* One that begins just before a multiple of 1G, and ends behind it. */
	ASSERT_SOUND(vmm_map(&self->vmm, AT_TOO - PIECE(4), self->memory.va, SIZE, READ_WRITE));
	EXPECT_SOUND(says(self, HEADER));
	ASSIGN(PAGE_OF(3, 7));
	ASSIGN(PAGE_OF(4, 511));
	ASSIGN(PAGE_OF(7, 0));
	EXPECT_SOUND(says(self, HEADER
			  "0 0x100600000 0x400000 0x200000\n"
			  "0 0x100e00000 0x200000 0x200000\n"
			  "0 0x1ffe00000 0x200000 0x200000\n"
			  "0 0x200000000 0x200000 0x200000\n"
			  "0 0x200600000 0x200000 0x200000\n"));
	/* It counts nothing, and starts no probe. */
	STATS(&stats);
	EXPECT_EQ(0, stats.mismatches);
	ASSERT_SOUND(vmm_policy(&self->vmm, VFIO_PGSIZE_POLICY_APPLY, ONLY_4K));
	EXPECT_SOUND(says(self, HEADER));
}

TEST_F_TIMEOUT(warn, debugfs_of_joined, TIMEOUT)
{
	struct vfio_pgsize_stats stats;

	POLICY(0);
	ASSERT_SOUND(vmm_map(&self->vmm, AT, self->memory.va, SIZE,
			     READ_WRITE | VFIO_PGSIZE_MAP_JOINED));
	STATS(&stats);
	ASSERT_EQ(1, stats.joined_entries);
	EXPECT_SOUND(says(self, HEADER));
	ASSIGN(PAGE_OF(3, 7));
	EXPECT_SOUND(says(self, HEADER "0 0x100600000 0x200000 0x200000\n"));
}

TEST_PROGRAM("What goes wrong with the RMP is in the log, and in debugfs.")
