// SPDX-License-Identifier: GPL-2.0
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/ratelimit.h>

#include "warning.h"

#define INTERVAL	(60 * HZ)
#define BURST		10

static struct ratelimit_state limits[PGSIZE_WARNINGS] = {
	[0 ... PGSIZE_WARNINGS - 1] = RATELIMIT_STATE_INIT(limits, INTERVAL, BURST),
};

bool pgsize_may_warn(u32 kind)
{
	return kind < ARRAY_SIZE(limits) && ___ratelimit(&limits[kind], KBUILD_MODNAME);
}
