// SPDX-License-Identifier: GPL-2.0
#include <linux/workqueue.h>

#include "work.h"

#define SOON	msecs_to_jiffies(10)
#define LATER	(HZ / 2)

static void (*work)(void);

void pgsize_work_init(void (*fn)(void))
{
	work = fn;
}

static void work_fn(struct work_struct *unused)
{
	work();
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
