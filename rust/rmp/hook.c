// SPDX-License-Identifier: GPL-2.0
#include <linux/fprobe.h>
#include <linux/panic.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/workqueue.h>

#include <asm/pgtable_types.h>
#include <asm/sev.h>

#include "entry.h"
#include "hook.h"
#include "sys/testing.h"
#include "work.h"

#define LOOK	HZ
#define IDLE	(5 * HZ)

u32 pgsize_followers, pgsize_hooked;

void pgsize_hook_followers(u32 number)
{
	WRITE_ONCE(pgsize_followers, number);
}

/* The value of pgsize_hook_missed() that the worker knows. */
static atomic64_t known;

/*
 * Seconds since the probes were registered, or a call was missed. A call that began
 * then may take effect later, because it may sleep (arch/x86/virt/svm/sev.c: rmpupdate,
 * adjust_direct_map). So the worker checks again after one second and after ten.
 */
static atomic_t seconds;
static atomic_t again;

void pgsize_missed_check(void)
{
	if (unlikely(atomic64_read(&known) != pgsize_hook_missed()))
		pgsize_work_now();
}

enum pgsize_recheck pgsize_missed_take(void)
{
	u64 missed = pgsize_hook_missed();
	bool looks = atomic_xchg(&again, 0);
	bool off = pgsize_rmp_take_off();

	if (off)
		pr_warn_ratelimited("vfio_pgsize: SNP was disabled (SYSCFG.SNP_EN is clear): IOMMU leaf sizes ignore the RMP until SNP is enabled again; DMA continues\n");
	if (atomic64_xchg(&known, missed) == missed) {
		if (off)
			return PGSIZE_RECHECK_NOTIFY;
		return looks ? PGSIZE_RECHECK_SILENT : PGSIZE_RECHECK_NONE;
	}
	atomic_set(&seconds, 0);
	/* fprobe counts a missed call before the call takes effect. */
	synchronize_rcu_tasks();
	return PGSIZE_RECHECK_NOTIFY;
}

static void look_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(look, look_fn);

static void look_fn(struct work_struct *work)
{
	int second = atomic_inc_return(&seconds);

	if (pgsize_rmp_look() || second == 1 || second == 10) {
		atomic_set(&again, 1);
		pgsize_work_now();
	}
	pgsize_missed_check();
	queue_delayed_work(system_dfl_wq, &look, LOOK);
}

static void look_start(void)
{
	atomic64_set(&known, 0);
	atomic_set(&seconds, 0);
	queue_delayed_work(system_dfl_wq, &look, LOOK);
}

static void look_stop(void)
{
	cancel_delayed_work_sync(&look);
}

static void idle_fn(struct work_struct *work)
{
	pgsize_hook_expire();
}

static DECLARE_DELAYED_WORK(idle, idle_fn);

/*
 * The probed functions are in arch/x86/virt/svm/sev.c. A call that breaks a 2M is handled
 * at entry, before it takes effect. A call that makes it whole is handled at exit, if it
 * succeeded.
 */
struct call {
	u64 pfn;
	u64 began;	/* see pgsize_generation() */
	bool large;
};

/*
 * In a panic the other processors are stopped by NMI anywhere: one may hold the rmap lock,
 * or a lock of the workqueue. ccp then shuts SNP down through the probed functions, before
 * kdump. No device needs its leaves any more.
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

/* The upper half of a register with a 32-bit argument or result is undefined. */
static bool is_large(struct ftrace_regs *regs, unsigned int level)
{
	return (u32)ftrace_regs_get_argument(regs, level) != PG_LEVEL_4K;
}

static bool is_refused(struct ftrace_regs *regs)
{
	return (u32)ftrace_regs_get_return_value(regs);
}

/* What all entry handlers do. False in a panic: return 1, to skip the exit handler too. */
static bool begins(struct call *call, struct ftrace_regs *regs)
{
	if (is_panic())
		return false;
	pgsize_missed_check();
	call->pfn = ftrace_regs_get_argument(regs, 0);
	return true;
}

static int psmash_entry(struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip,
			struct ftrace_regs *regs, void *data)
{
	struct call *call = data;

	if (!begins(call, regs))
		return 1;
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

	if (!begins(call, regs))
		return 1;
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

	if (!begins(call, regs))
		return 1;
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

/* The part of missed_in_all() that is not reported to current followers. */
static u64 missed_before;

static u64 missed_in_all(void)
{
	u64 missed = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(probes); i++)
		missed += READ_ONCE(probes[i].fprobe.nmissed);
	return missed;
}

const char *pgsize_hook_obstacle(void)
{
	if (!pgsize_rmp_is_host())
		return "this is no SNP host";
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return "the kernel has PREEMPT_RT";
	if (!IS_ENABLED(CONFIG_FPROBE))
		return "the kernel has no CONFIG_FPROBE";
	if (!pgsize_rmp_is_on())
		return "SNP is off until kvm_amd or ccp enables it";
	return NULL;
}

int pgsize_hook_register(void)
{
	int ret;

	/* The rmap lock would sleep there, and the handlers cannot. */
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
			pr_warn("vfio_pgsize: %s cannot be probed: %d\n", probe->symbol, ret);
			unregister_first(i);
			return ret == -ENOMEM ? ret : -EOPNOTSUPP;
		}
	}
	WRITE_ONCE(missed_before, 0);
	WRITE_ONCE(pgsize_hooked, pgsize_hooked + 1);
	look_start();
	/*
	 * Wait for calls that began earlier, which the probes did not see. Such a call may
	 * sleep for memory while it splits the kernel's own mapping (rmpupdate:
	 * adjust_direct_map). That ends this wait, so look_start() checks again later.
	 */
	synchronize_rcu_tasks();
	return 0;
}

void pgsize_hook_idle(void)
{
	look_stop();
	pgsize_rmp_forget();
	mod_delayed_work(system_dfl_wq, &idle, IDLE);
}

void pgsize_hook_resume(void)
{
	u64 missed = missed_in_all();

	/* Nobody follows yet: what an audit found meanwhile is looked for anew. */
	pgsize_rmp_forget();
	/* As at registration: calls that were missed meanwhile may not have taken effect. */
	if (missed != missed_before + atomic64_read(&known))
		synchronize_rcu_tasks();
	WRITE_ONCE(missed_before, missed);
	look_start();
}

void pgsize_hook_exit(void)
{
	cancel_delayed_work_sync(&idle);
}

void pgsize_hook_unregister(void)
{
	look_stop();
	unregister_first(ARRAY_SIZE(probes));
}

u64 pgsize_hook_missed(void)
{
	return missed_in_all() - READ_ONCE(missed_before);
}
