// SPDX-License-Identifier: GPL-2.0
#include <linux/rcupdate.h>
#include <linux/workqueue.h>

#include "hook.h"
#include "worker.h"

#define SOON	msecs_to_jiffies(10)
#define LATER	(HZ / 2)
#define LOOK	HZ

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

void pgsize_work_cancel(void)
{
	cancel_work_sync(&now);
	cancel_delayed_work_sync(&soon);
	cancel_delayed_work_sync(&later);
}

/* Of pgsize_hook_missed(), what the work knows of. */
static atomic64_t known;

void pgsize_missed_look(void)
{
	if (unlikely(atomic64_read(&known) != pgsize_hook_missed()))
		pgsize_work_now();
}

bool pgsize_missed_take(void)
{
	u64 missed = pgsize_hook_missed();

	if (atomic64_xchg(&known, missed) == missed)
		return false;
	/* What was missed is counted before it takes effect. The calls do not sleep. */
	synchronize_rcu_tasks();
	return true;
}

static void look_fn(struct work_struct *work);
static DECLARE_DEFERRABLE_WORK(look, look_fn);

static void look_fn(struct work_struct *work)
{
	pgsize_missed_look();
	queue_delayed_work(system_dfl_wq, &look, LOOK);
}

void pgsize_look_start(void)
{
	atomic64_set(&known, 0);
	queue_delayed_work(system_dfl_wq, &look, LOOK);
}

void pgsize_look_stop(void)
{
	cancel_delayed_work_sync(&look);
}
