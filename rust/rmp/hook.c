// SPDX-License-Identifier: GPL-2.0
#include <linux/fprobe.h>
#include <linux/panic.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>

#include <asm/pgtable_types.h>
#include <asm/sev.h>

#include "debugfs.h"
#include "hook.h"
#include "entry.h"
#include "sys/testing.h"
#include "work.h"

/*
 * Probed are functions of arch/x86/virt/svm/sev.c. What makes a 2M RMP entry, or
 * a 2M of shared pages, into one of 4K entries is told at entry, before it takes
 * effect; what makes it whole again is told at exit, if it was done.
 */
struct call {
	u64 pfn;
	u64 began;	/* see pgsize_generation() */
	bool large;
};

/*
 * In a panic the other processors are stopped, by NMI, wherever they are: one may hold
 * the lock of the tree, or one that the worker's queue wants. ccp takes SNP down then,
 * through what is probed here, and before kdump. No device needs its leaves any more.
 */
static bool is_panic(void)
{
	if (likely(!panic_in_progress()))
		return false;
#ifdef VFIO_PGSIZE_TEST
	pgsize_hooked_in_panic();
#endif
	return true;
}

/*
 * Of an argument, and of a result, of 32 bits the upper half of the register is
 * whatever the caller, or the callee, left there.
 */
static bool is_large(struct ftrace_regs *regs, unsigned int level)
{
	return (u32)ftrace_regs_get_argument(regs, level) != PG_LEVEL_4K;
}

static bool is_refused(struct ftrace_regs *regs)
{
	return (u32)ftrace_regs_get_return_value(regs);
}

static int psmash_entry(struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip,
			struct ftrace_regs *regs, void *data)
{
	struct call *call = data;

	if (is_panic())
		return 1;	/* nor at exit */
	pgsize_missed_look();
	call->pfn = ftrace_regs_get_argument(regs, 0);
	call->began = pgsize_smash_begin(call->pfn);
	return 0;
}

static void psmash_exit(struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip,
			struct ftrace_regs *regs, void *data)
{
	struct call *call = data;

	if (!is_panic())
		pgsize_smash_end(call->pfn, call->began, is_refused(regs));
}

static int private_entry(struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip,
			 struct ftrace_regs *regs, void *data)
{
	struct call *call = data;

	if (is_panic())
		return 1;	/* nor at exit */
	pgsize_missed_look();
	call->pfn = ftrace_regs_get_argument(regs, 0);
	call->large = is_large(regs, 2);
	call->began = call->large ? pgsize_generation(call->pfn) : pgsize_smash_begin(call->pfn);
	return 0;
}

static void private_exit(struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip,
			 struct ftrace_regs *regs, void *data)
{
	struct call *call = data;

	if (is_panic())
		return;
	if (!call->large)
		pgsize_smash_end(call->pfn, call->began, is_refused(regs));
	else if (!is_refused(regs))
		pgsize_became_whole(call->pfn, call->began);
}

static int shared_entry(struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip,
			struct ftrace_regs *regs, void *data)
{
	struct call *call = data;

	if (is_panic())
		return 1;	/* nor at exit */
	pgsize_missed_look();
	call->pfn = ftrace_regs_get_argument(regs, 0);
	call->large = is_large(regs, 1);
	if (call->large)
		call->began = pgsize_generation(call->pfn);
	return 0;
}

static void shared_exit(struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip,
			struct ftrace_regs *regs, void *data)
{
	struct call *call = data;

	if (is_panic() || is_refused(regs))
		return;
	if (call->large)
		pgsize_became_whole(call->pfn, call->began);
	else
		pgsize_became_shared(call->pfn);
}

static struct probe {
	const char *symbol;
	struct fprobe fprobe;
} probes[] = {
	{ "psmash", { .entry_handler = psmash_entry, .exit_handler = psmash_exit } },
	{ "rmp_make_private", { .entry_handler = private_entry, .exit_handler = private_exit } },
	{ "rmp_make_shared", { .entry_handler = shared_entry, .exit_handler = shared_exit } },
};

static void unregister_first(unsigned int count)
{
	while (count--)
		unregister_fprobe(&probes[count].fprobe);
	pgsize_rmp_close();
}

/* Of missed_in_all(), those of which nobody who follows now is told. */
static u64 missed_before;

static u64 missed_in_all(void)
{
	u64 missed = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(probes); i++)
		missed += READ_ONCE(probes[i].fprobe.nmissed);
	return missed;
}

int pgsize_hook_register(void)
{
	int ret;

	/* The lock of the tree would be one that sleeps, and handlers can not. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return -EOPNOTSUPP;
	ret = pgsize_rmp_open();
	if (ret)
		return ret;
	for (unsigned int i = 0; i < ARRAY_SIZE(probes); i++) {
		struct probe *probe = &probes[i];

		probe->fprobe.entry_data_size = sizeof(struct call);
		probe->fprobe.nmissed = 0;
		ret = register_fprobe_syms(&probe->fprobe, &probe->symbol, 1);
		if (ret) {
			pr_warn("vfio_pgsize: %s can not be probed: %d\n", probe->symbol, ret);
			unregister_first(i);
			return ret == -ENOMEM ? ret : -EOPNOTSUPP;
		}
	}
	WRITE_ONCE(missed_before, 0);
	pgsize_debug_hooked();
	pgsize_look_start();
	/*
	 * A call that began before goes by unseen: wait for it. It may sleep for
	 * memory while it splits the kernel's own mapping (rmpupdate:
	 * adjust_direct_map), which ends the wait: that is what the looks that
	 * pgsize_look_start() begins are for.
	 */
	synchronize_rcu_tasks();
	return 0;
}

void pgsize_hook_idle(void)
{
	pgsize_look_stop();
	pgsize_rmp_forget();
	pgsize_idle_start();
}

void pgsize_hook_resume(void)
{
	u64 missed = missed_in_all();

	/* As when it is registered: what went by unseen meanwhile may not have taken effect. */
	if (missed != missed_before + pgsize_missed_known())
		synchronize_rcu_tasks();
	WRITE_ONCE(missed_before, missed);
	pgsize_look_start();
}

void pgsize_hook_unregister(void)
{
	pgsize_look_stop();
	unregister_first(ARRAY_SIZE(probes));
}

u64 pgsize_hook_missed(void)
{
	return missed_in_all() - READ_ONCE(missed_before);
}

static DEFINE_SPINLOCK(rmap_lock);

unsigned long pgsize_rmap_lock(void)
{
	unsigned long flags;

	spin_lock_irqsave(&rmap_lock, flags);
#ifdef VFIO_PGSIZE_TEST
	pgsize_lock_taken();
#endif
	return flags;
}

void pgsize_rmap_unlock(unsigned long flags)
{
#ifdef VFIO_PGSIZE_TEST
	pgsize_lock_held();
#endif
	spin_unlock_irqrestore(&rmap_lock, flags);
}
