// SPDX-License-Identifier: GPL-2.0
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/printk.h>

#include <linux/vfio_pgsize.h>

#include "backend.h"
#include "rmp/hook.h"
#include "sys/parameters.h"
#include "sys/release.h"

void pgsize_say_loaded(void)
{
	const char *obstacle = pgsize_hook_obstacle();
	char sizes[PGSIZE_SIZES_ROOM];

	pgsize_default_pgsizes_text(sizes, sizeof(sizes));
	pr_info("%s, interface version %d: serves VFIO_PGSIZE_IOMMU%s%s; default leaf sizes: %s%s; the RMP can%s be followed%s%s\n",
		PGSIZE_RELEASE, VFIO_PGSIZE_VERSION,
		pgsize_serve_type1v2() ? ", VFIO_TYPE1v2_IOMMU" : "",
		pgsize_serve_type1() ? ", VFIO_TYPE1_IOMMU" : "",
		sizes, pgsize_default_follow() ? ", following the RMP" : "",
		obstacle ? "not" : "", obstacle ? ": " : "", obstacle ?: "");
}
