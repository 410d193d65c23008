// SPDX-License-Identifier: GPL-2.0
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/workqueue.h>

#include "hook.h"
#include "entry.h"
#include "work.h"

#define SOON	msecs_to_jiffies(10)
#define LATER	(HZ / 2)
#define LOOK	HZ
#define IDLE	(5 * HZ)

static void work_fn(struct work_struct *work)
{
	pgsize_work();
}

static DECLARE_WORK(now, work_fn);
static DECLARE_DELAYED_WORK(soon, work_fn);
static DECLARE_DELAYED_WORK(later, work_fn);

void pgsize_work_now(void)
{
	queue_work(system_dfl_wq, &now);
}

void pgsize_work_soon(void)
{
	queue_delayed_work(system_dfl_wq, &soon, SOON);
}

void pgsize_work_later(void)
{
	queue_delayed_work(system_dfl_wq, &later, LATER);
}

static void idle_fn(struct work_struct *work)
{
	pgsize_hook_expire();
}

static DECLARE_DELAYED_WORK(idle, idle_fn);

void pgsize_idle_start(void)
{
	mod_delayed_work(system_dfl_wq, &idle, IDLE);
}

void pgsize_work_cancel(void)
{
	cancel_delayed_work_sync(&idle);
	cancel_work_sync(&now);
	cancel_delayed_work_sync(&soon);
	cancel_delayed_work_sync(&later);
}

/* Of pgsize_hook_missed(), what the work knows of. */
static atomic64_t known;

/*
 * Seconds since the hook was registered, or a call was missed. A call that began
 * then may take effect a little later, for it may sleep (arch/x86/virt/svm/sev.c:
 * rmpupdate, adjust_direct_map). So it is looked again, after one second and after
 * ten.
 */
static atomic_t seconds;
static atomic_t again;

void pgsize_missed_look(void)
{
	if (unlikely(atomic64_read(&known) != pgsize_hook_missed()))
		pgsize_work_now();
}

u64 pgsize_missed_known(void)
{
	return atomic64_read(&known);
}

enum pgsize_look pgsize_missed_take(void)
{
	u64 missed = pgsize_hook_missed();
	bool looks = atomic_xchg(&again, 0);
	bool off = pgsize_rmp_take_off();

	if (off)
		pr_warn_ratelimited("vfio_pgsize: SNP was switched off: leaves follow nothing\n");
	if (atomic64_xchg(&known, missed) == missed) {
		if (off)
			return PGSIZE_LOOK_TELL;
		return looks ? PGSIZE_LOOK_AGAIN : PGSIZE_LOOK_NOT;
	}
	atomic_set(&seconds, 0);
	/* What was missed is counted before it takes effect. */
	synchronize_rcu_tasks();
	return PGSIZE_LOOK_TELL;
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
	pgsize_missed_look();
	queue_delayed_work(system_dfl_wq, &look, LOOK);
}

void pgsize_look_start(void)
{
	atomic64_set(&known, 0);
	atomic_set(&seconds, 0);
	queue_delayed_work(system_dfl_wq, &look, LOOK);
}

void pgsize_look_stop(void)
{
	cancel_delayed_work_sync(&look);
}
