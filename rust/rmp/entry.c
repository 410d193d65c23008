// SPDX-License-Identifier: GPL-2.0
/*
 * The firmware disables SNP inside its command SNP_SHUTDOWN_EX, on all processors and at any
 * moment. RMPREAD is an invalid opcode then, and also before SNP is enabled. The kernel's
 * snp_lookup_rmpentry() executes it without an exception-table entry. So this file executes
 * RMPREAD itself where it exists, and catches the exception. Elsewhere the kernel reads the
 * table as memory, which always works.
 */
#include <linux/atomic.h>
#include <linux/cc_platform.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/smp.h>

#include <asm/asm.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/pgtable_types.h>
#include <asm/sev.h>

#include "entry.h"
#include "work.h"

#define PFNS_PER_2M	(PMD_SIZE / PAGE_SIZE)

/* Result of RMPREAD if there is no entry. */
#define RMPREAD_FAIL_INPUT	1

/* Output of RMPREAD. Only the lowest bit of each byte field is used. */
struct rmp_answer {
	u64 gpa;
	u8 assigned;
	u8 pagesize;
	u8 immutable;
	u8 reserved;
	u32 asid;
} __packed;

static typeof(snp_lookup_rmpentry) *lookup;

/* The number of those who may look up entries: the hook, and audits. */
static unsigned int users;
static DEFINE_MUTEX(users_lock);

/* SNP was found off, and not found on since. */
static atomic_t off;
static atomic_t off_unsaid;

static void found_off(void)
{
	if (!atomic_xchg(&off, 1)) {
		atomic_set(&off_unsaid, 1);
		pgsize_work_now();
	}
}

static bool is_on_here(void)
{
	u64 syscfg;

	return !rdmsrq_safe(MSR_AMD64_SYSCFG, &syscfg) && syscfg & MSR_AMD64_SYSCFG_SNP_EN;
}

bool pgsize_rmp_is_host(void)
{
	return cc_platform_has(CC_ATTR_HOST_SEV_SNP);
}

bool pgsize_rmp_is_on(void)
{
	return pgsize_rmp_is_host() && !atomic_read(&off) && is_on_here();
}

int pgsize_rmp_open(void)
{
	int ret = -EOPNOTSUPP;

	if (!pgsize_rmp_is_on())
		return ret;
	mutex_lock(&users_lock);
	if (!users)
		lookup = symbol_get(snp_lookup_rmpentry);
	if (lookup) {
		users++;
		ret = 0;
	}
	mutex_unlock(&users_lock);
	return ret;
}

void pgsize_rmp_forget(void)
{
	atomic_set(&off, 0);
	atomic_set(&off_unsaid, 0);
}

void pgsize_rmp_close(void)
{
	mutex_lock(&users_lock);
	if (!--users) {
		symbol_put(snp_lookup_rmpentry);
		lookup = NULL;
		pgsize_rmp_forget();
	}
	mutex_unlock(&users_lock);
}

/* Reads one entry, not that of its 2M. */
static int rmpread(u64 pfn, bool *assigned, bool *large)
{
	struct rmp_answer answer = {};
	u64 rax = pfn << PAGE_SHIFT;
	bool undefined = true;

	/* After a #UD execution continues behind the instruction that clears `undefined`. */
	asm volatile("1:\t.byte 0xf2, 0x0f, 0x01, 0xfd\n\t"
		     "movb\t$0, %[undefined]\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b)
		     : "+a" (rax), [undefined] "+qm" (undefined)
		     : "c" (&answer)
		     : "memory", "cc");
	if (undefined) {
		found_off();
		return -ENODEV;
	}
	if ((u32)rax)
		return (u32)rax == RMPREAD_FAIL_INPUT ? -EFAULT : -EIO;
	*assigned = answer.assigned & 1;
	*large = answer.pagesize & 1;
	return 0;
}

/* @large: the size in the entry of the 2M, or in the page's own. */
static int look_up(u64 pfn, bool *assigned, bool *large)
{
	int level, ret;

	if (atomic_read(&off))
		return -ENODEV;
	if (cpu_feature_enabled(X86_FEATURE_RMPREAD))
		return rmpread(pfn, assigned, large);
	ret = lookup(pfn, assigned, &level);
	*large = !ret && level != PG_LEVEL_4K;
	return ret;
}

int pgsize_rmp_lookup(u64 pfn, bool *assigned, bool *large)
{
	u64 first = ALIGN_DOWN(pfn, PFNS_PER_2M);
	bool first_assigned;
	int ret = look_up(pfn, assigned, large);

	if (ret)
		return ret;
	/* The other fields of an unassigned entry are meaningless. */
	if (!*assigned) {
		*large = false;
		return 0;
	}
	if (pfn == first)
		return 0;
	/* The first entry of the 2M, if it is assigned, has the size. */
	ret = look_up(first, &first_assigned, large);
	*large = !ret && *large && first_assigned;
	return ret;
}

static void look_here(void *any_off)
{
	if (!is_on_here())
		WRITE_ONCE(*(bool *)any_off, true);
}

bool pgsize_rmp_look(void)
{
	bool any_off = false;

	if (!atomic_read(&off)) {
		if (!is_on_here())
			found_off();
		return false;
	}
	on_each_cpu(look_here, &any_off, 1);
	if (any_off)
		return false;
	atomic_set(&off, 0);
	return true;
}

bool pgsize_rmp_take_off(void)
{
	return atomic_xchg(&off_unsaid, 0);
}
