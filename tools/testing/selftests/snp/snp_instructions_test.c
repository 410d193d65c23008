// SPDX-License-Identifier: GPL-2.0
/*
 * PSMASH, RMPUPDATE and RMPREAD: their results, and their effects on the table, as the oracle
 * reads it.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backing.h"
#include "guest.h"
#include "harness.h"
#include "rmp.h"
#include "units.h"

/* AMD64 Architecture Programmer's Manual, volume 3. */
#define OK		0
#define FAIL_INPUT	1
#define FAIL_PERMISSION	2
#define FAIL_OVERLAP	4

#define GPA		GIB(3)
#define NOWHERE		(1ULL << 45)

FIXTURE(instructions) {
	struct memory memory;
	struct guest guest;
	uint64_t spa;		/* of a huge page */
};

FIXTURE_SETUP(instructions)
{
	ASSERT_SOUND(memory_alloc(&self->memory, HUGETLB_2M, MIB(2)));
	ASSERT_SOUND(memory_phys(self->memory.va, 1, &self->spa));
	ASSERT_SOUND(guest_start(&self->guest, self->memory.va, MIB(2)));
}

FIXTURE_TEARDOWN(instructions)
{
	guest_stop(&self->guest);
	memory_free(&self->memory);
	huge_pages_release();
}

static uint32_t psmash(struct guest *guest, uint64_t spa)
{
	return guest_execute(guest, &(struct snp_host_raw) {
		.insn = SNP_HOST_PSMASH, .spa = spa,
	});
}

/* Assign `spa` to the guest of ASID `asid`; 0 takes it back. */
static uint32_t rmpupdate(struct guest *guest, uint64_t spa, uint64_t gpa, bool huge, uint32_t asid)
{
	return guest_execute(guest, &(struct snp_host_raw) {
		.insn = SNP_HOST_RMPUPDATE, .spa = spa, .gpa = gpa, .pagesize = huge,
		.assigned = asid != 0, .asid = asid,
	});
}

static problem entry_is(uint64_t spa, bool assigned, bool huge, uint64_t gpa, uint32_t asid)
{
	struct rmp_entry entry;
	problem wrong = rmp_entry(&entry, spa);

	if (!wrong && (entry.assigned != assigned || entry.huge != huge || entry.gpa != gpa ||
		       entry.asid != asid))
		wrong = problem_is("the entry of %#lx is %s %s, GPA %#lx, ASID %u", spa,
				   entry.assigned ? "assigned" : "shared",
				   entry.huge ? "2M" : "4K", entry.gpa, entry.asid);
	return wrong;
}

TEST_F(instructions, rmpupdate_4k)
{
	uint64_t spa = self->spa + 7 * PAGE;

	EXPECT_EQ(OK, rmpupdate(&self->guest, spa, GPA, false, 5));
	EXPECT_SOUND(entry_is(spa, true, false, GPA, 5));
	EXPECT_SOUND(entry_is(spa - PAGE, false, false, 0, 0));
	EXPECT_SOUND(entry_is(spa + PAGE, false, false, 0, 0));
	/* Directly to another guest; and sharing a shared page. */
	EXPECT_EQ(OK, rmpupdate(&self->guest, spa, GPA + PAGE, false, 1023));
	EXPECT_SOUND(entry_is(spa, true, false, GPA + PAGE, 1023));
	EXPECT_EQ(OK, rmpupdate(&self->guest, spa, 0, false, 0));
	EXPECT_EQ(OK, rmpupdate(&self->guest, spa, 0, false, 0));
	EXPECT_SOUND(entry_is(spa, false, false, 0, 0));
}

TEST_F(instructions, rmpupdate_2m)
{
	EXPECT_EQ(OK, rmpupdate(&self->guest, self->spa, GPA, true, 5));
	EXPECT_SOUND(entry_is(self->spa, true, true, GPA, 5));
	EXPECT_SOUND(entry_is(self->spa + MIB(2) - PAGE, true, true, 0, 0));
	EXPECT_SOUND(entry_is(self->spa - PAGE, false, false, 0, 0));
	EXPECT_SOUND(entry_is(self->spa + MIB(2), false, false, 0, 0));
	EXPECT_EQ(OK, rmpupdate(&self->guest, self->spa, 0, true, 0));
	EXPECT_SOUND(entry_is(self->spa, false, false, 0, 0));
	EXPECT_SOUND(entry_is(self->spa + MIB(2) - PAGE, false, false, 0, 0));
}

TEST_F(instructions, rmpupdate_bad_input)
{
	uint64_t spa = self->spa;

	EXPECT_EQ(FAIL_INPUT, rmpupdate(&self->guest, spa + 8, GPA, false, 1));
	EXPECT_EQ(FAIL_INPUT, rmpupdate(&self->guest, spa + PAGE, GPA, true, 1));
	EXPECT_EQ(FAIL_INPUT, rmpupdate(&self->guest, spa, GPA + 8, false, 1));
	EXPECT_EQ(FAIL_INPUT, rmpupdate(&self->guest, spa, GPA + PAGE, true, 1));
	EXPECT_EQ(FAIL_INPUT, rmpupdate(&self->guest, spa, 1ULL << 51, false, 1));
	EXPECT_EQ(FAIL_INPUT, rmpupdate(&self->guest, spa, GPA, false, 1024));
	EXPECT_EQ(FAIL_INPUT, rmpupdate(&self->guest, NOWHERE, GPA, false, 1));
	EXPECT_EQ(FAIL_INPUT, rmpupdate(&self->guest, NOWHERE, GPA, true, 1));
	EXPECT_SOUND(entry_is(spa, false, false, 0, 0));
}

TEST_F(instructions, rmpupdate_overlap)
{
	uint64_t spa = self->spa;

	/* A page of a 2M entry, including its first one. */
	ASSERT_EQ(OK, rmpupdate(&self->guest, spa, GPA, true, 5));
	EXPECT_EQ(FAIL_OVERLAP, rmpupdate(&self->guest, spa, 0, false, 0));
	EXPECT_EQ(FAIL_OVERLAP, rmpupdate(&self->guest, spa + 3 * PAGE, GPA, false, 6));
	EXPECT_SOUND(entry_is(spa, true, true, GPA, 5));
	ASSERT_EQ(OK, rmpupdate(&self->guest, spa, 0, true, 0));
	/* 2M over a page, even the last. */
	ASSERT_EQ(OK, rmpupdate(&self->guest, spa + 511 * PAGE, GPA, false, 5));
	EXPECT_EQ(FAIL_OVERLAP, rmpupdate(&self->guest, spa, GPA, true, 5));
	EXPECT_EQ(FAIL_OVERLAP, rmpupdate(&self->guest, spa, 0, true, 0));
	EXPECT_SOUND(entry_is(spa + 511 * PAGE, true, false, GPA, 5));
	EXPECT_SOUND(entry_is(spa, false, false, 0, 0));
	EXPECT_EQ(OK, rmpupdate(&self->guest, spa + 511 * PAGE, 0, false, 0));
	EXPECT_EQ(OK, rmpupdate(&self->guest, spa, GPA, true, 5));
}

TEST_F(instructions, psmash)
{
	uint64_t spa = self->spa;

	ASSERT_EQ(OK, rmpupdate(&self->guest, spa, GPA, true, 5));
	EXPECT_EQ(OK, psmash(&self->guest, spa));
	for (int i = 0; i < 512; i++)
		ASSERT_SOUND(entry_is(spa + i * PAGE, true, false, GPA + i * PAGE, 5));
	/* Now each page has its own entry. */
	EXPECT_EQ(OK, rmpupdate(&self->guest, spa + 3 * PAGE, 0, false, 0));
	EXPECT_SOUND(entry_is(spa + 3 * PAGE, false, false, 0, 0));
	EXPECT_SOUND(entry_is(spa + 4 * PAGE, true, false, GPA + 4 * PAGE, 5));
}

TEST_F(instructions, psmash_refused)
{
	uint64_t spa = self->spa;

	EXPECT_EQ(FAIL_INPUT, psmash(&self->guest, spa + PAGE));
	EXPECT_EQ(FAIL_INPUT, psmash(&self->guest, NOWHERE));
	EXPECT_EQ(FAIL_PERMISSION, psmash(&self->guest, spa));
	ASSERT_EQ(OK, rmpupdate(&self->guest, spa, GPA, false, 5));
	EXPECT_EQ(FAIL_PERMISSION, psmash(&self->guest, spa));
	ASSERT_EQ(OK, rmpupdate(&self->guest, spa, 0, false, 0));
	ASSERT_EQ(OK, rmpupdate(&self->guest, spa, GPA, true, 5));
	EXPECT_EQ(OK, psmash(&self->guest, spa));
	EXPECT_EQ(FAIL_PERMISSION, psmash(&self->guest, spa));
}

static bool has_rmpread(void)
{
	unsigned int eax = 0x8000001f, ebx, ecx = 0, edx;

	asm volatile("cpuid" : "+a" (eax), "=b" (ebx), "+c" (ecx), "=d" (edx));
	return eax & 1 << 21;
}

TEST_F(instructions, rmpread)
{
	struct snp_host_raw raw = { .insn = SNP_HOST_RMPREAD, .spa = self->spa };

	ASSERT_EQ(OK, rmpupdate(&self->guest, self->spa, GPA, true, 5));
	if (!has_rmpread()) {
		EXPECT_EQ(SNP_HOST_UNDEFINED, guest_execute(&self->guest, &raw));
		return;
	}
	EXPECT_EQ(OK, guest_execute(&self->guest, &raw));
	EXPECT_EQ(GPA, raw.gpa);
	EXPECT_EQ(1, raw.assigned);
	EXPECT_EQ(1, raw.pagesize);
	EXPECT_EQ(0, raw.immutable);
	EXPECT_EQ(5, raw.asid);
	raw.spa = NOWHERE;
	EXPECT_EQ(FAIL_INPUT, guest_execute(&self->guest, &raw));
	/* On this machine the kernel's look-ups use RMPREAD. */
	EXPECT_SOUND(guest_page_is(&self->guest, PAGE, true, true));
}

/* The kernel's functions use these instructions. */
TEST_F(instructions, counted)
{
	struct rmp_counts before, after;

	ASSERT_SOUND(rmp_counts(&before));
	ASSERT_SOUND(guest_assign(&self->guest, 0, true));
	ASSERT_SOUND(guest_smash(&self->guest, 0));
	ASSERT_SOUND(guest_share(&self->guest, 5 * PAGE, false));
	EXPECT_SOUND(guest_page_is(&self->guest, 5 * PAGE, false, false));
	ASSERT_SOUND(rmp_counts(&after));
	EXPECT_EQ(1, after.psmashes - before.psmashes);
	EXPECT_EQ(2, after.rmpupdates - before.rmpupdates);
	EXPECT_EQ(has_rmpread(), after.rmpreads > before.rmpreads);
}

/* Linux takes the machine for an SNP host. */
TEST(kernel_found_an_snp_host)
{
	char record[8192];
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), found = 0;
	ssize_t length;

	ASSERT_LE(0, fd);
	while ((length = read(fd, record, sizeof(record) - 1)) > 0) {
		record[length] = '\0';
		found += !!strstr(record, "AMD-Vi: IOMMU SNP support enabled");
	}
	close(fd);
	EXPECT_EQ(1, found);
	EXPECT_EQ(0, system("grep -qw sev_snp /proc/cpuinfo"));
}

TEST_PROGRAM("The results of SNP's instructions, and what they write.")
