// SPDX-License-Identifier: GPL-2.0
/* Only in the test build: see testing.h. */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/spinlock.h>

#include <asm/tsc.h>

#include "testing.h"

/*
 * Milliseconds before a wait is given up. Who is awaited may be on a busy host, so this is long
 * where sleeping is allowed, but the kernel reports who waits 120 s for a mutex of a thread here.
 */
#define PATIENCE	100000
static unsigned int busy_patience = 50;
module_param(busy_patience, uint, 0600);
MODULE_PARM_DESC(busy_patience, "Milliseconds that who can not sleep waits at a step (default: 50)");

static struct {
	unsigned int waiter;
	unsigned int awaited;
} gates[PGSIZE_GATES];

/* The lock protects these, and the gates. */
static DEFINE_SPINLOCK(lock);
static unsigned int nr_gates;	/* 0: steps are ignored */
static unsigned int openings;	/* how often all gates were removed, which ends each wait */
static unsigned int happened;
static unsigned int reached[PGSIZE_STEPS];
static unsigned int passed[PGSIZE_STEPS];
static unsigned long given_up;

static bool is_over(unsigned int awaited, unsigned int opened)
{
	unsigned long flags;
	bool ret;

	spin_lock_irqsave(&lock, flags);
	ret = reached[awaited] || openings != opened;
	spin_unlock_irqrestore(&lock, flags);
	return ret;
}

static void wait_for(unsigned int awaited, unsigned int step, unsigned int opened)
{
	bool busy = step >= PGSIZE_STEP_SMASH_BEGINS;
	ktime_t end = ktime_add_ms(ktime_get(), busy ? READ_ONCE(busy_patience) : PATIENCE);
	unsigned long flags;

	while (!is_over(awaited, opened)) {
		if (ktime_after(ktime_get(), end)) {
			spin_lock_irqsave(&lock, flags);
			if (openings == opened)
				given_up |= BIT(step);
			spin_unlock_irqrestore(&lock, flags);
			return;
		}
		if (busy)
			udelay(5);
		else
			usleep_range(50, 100);
	}
}

void pgsize_step(unsigned int step)
{
	unsigned int awaited[PGSIZE_GATES], nr = 0, opened;
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	if (!nr_gates || reached[step]) {
		spin_unlock_irqrestore(&lock, flags);
		return;
	}
	reached[step] = ++happened;
	for (unsigned int i = 0; i < nr_gates; i++)
		if (gates[i].waiter == step)
			awaited[nr++] = gates[i].awaited;
	opened = openings;
	spin_unlock_irqrestore(&lock, flags);

	while (nr--)
		wait_for(awaited[nr], step, opened);

	spin_lock_irqsave(&lock, flags);
	if (openings == opened)
		passed[step] = ++happened;
	spin_unlock_irqrestore(&lock, flags);
}

/* Takes no lock: its holder may be stopped. Logs the first few calls. */
void pgsize_hooked_in_panic(void)
{
	static atomic_t times;

	if (atomic_inc_return(&times) <= 4)
		pr_emerg("vfio_pgsize: hooked in a panic\n");
}

static int set_gates(const char *text, const struct kernel_param *param)
{
	/* The first element is the number of the others. */
	int numbers[2 * PGSIZE_GATES + 2];
	unsigned long flags;

	get_options(text, ARRAY_SIZE(numbers), numbers);
	if (numbers[0] % 2 || numbers[0] > 2 * PGSIZE_GATES)
		return -EINVAL;
	for (int i = 1; i <= numbers[0]; i++)
		if (numbers[i] < 0 || numbers[i] >= PGSIZE_STEPS)
			return -EINVAL;

	spin_lock_irqsave(&lock, flags);
	nr_gates = numbers[0] / 2;
	openings += !nr_gates;
	for (unsigned int i = 0; i < nr_gates; i++) {
		gates[i].waiter = numbers[2 * i + 1];
		gates[i].awaited = numbers[2 * i + 2];
	}
	happened = 0;
	memset(reached, 0, sizeof(reached));
	memset(passed, 0, sizeof(passed));
	given_up = 0;
	spin_unlock_irqrestore(&lock, flags);
	return 0;
}

static int get_gates(char *text, const struct kernel_param *param)
{
	unsigned long flags;
	int length = 0;

	spin_lock_irqsave(&lock, flags);
	for (unsigned int step = 0; step < PGSIZE_STEPS; step++)
		length += sysfs_emit_at(text, length, "%u/%u ", reached[step], passed[step]);
	length += sysfs_emit_at(text, length, "%lx\n", given_up);
	spin_unlock_irqrestore(&lock, flags);
	return length;
}

static const struct kernel_param_ops gates_ops = { .set = set_gates, .get = get_gates };
module_param_cb(gates, &gates_ops, NULL, 0600);
MODULE_PARM_DESC(gates, "Steps at which threads wait for one another: see testing.h");

/* Protected by the rmap lock. */
static u64 taken;
static u64 longest;
module_param(longest, ullong, 0600);
MODULE_PARM_DESC(longest, "How long the lock of the rmap was held at most: see testing.h");

void pgsize_lock_taken(void)
{
	taken = rdtsc_ordered();
}

void pgsize_lock_held(void)
{
	u64 held = rdtsc_ordered() - taken;

	if (held > longest)
		WRITE_ONCE(longest, held);
}

static bool own_domains;
module_param(own_domains, bool, 0444);
MODULE_PARM_DESC(own_domains, "Each group gets a domain of its own (default: N)");

bool pgsize_own_domains(void)
{
	return own_domains;
}

static atomic_t calls;

void pgsize_call_enters(void)
{
	atomic_inc(&calls);
	pgsize_step(PGSIZE_STEP_CALL_ENTERS);
}

void pgsize_call_leaves(void)
{
	pgsize_step(PGSIZE_STEP_CALL_LEAVES);
	atomic_dec(&calls);
}

void pgsize_no_calls(void)
{
	WARN_ON(atomic_read(&calls));
}

static bool no_dirty_bits;
module_param(no_dirty_bits, bool, 0600);
MODULE_PARM_DESC(no_dirty_bits, "Groups that come have an IOMMU without dirty bits (default: N)");

bool pgsize_no_dirty_bits(void)
{
	return READ_ONCE(no_dirty_bits);
}
