// SPDX-License-Identifier: GPL-2.0
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/string.h>

#include <drivers/vfio/vfio.h>

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

/*
 * A driver that VFIO asks even before vfio_iommu_type1. It sees the containers that
 * vfio_iommu_type1 takes, and refuses them all. No container refers to it, so unlike the
 * real driver it can be registered and unregistered at any time.
 */
static long lookout_ioctl(void *data, unsigned int command, unsigned long arg)
{
	if (command != VFIO_CHECK_EXTENSION)
		return -ENOTTY;
	return (arg == VFIO_TYPE1v2_IOMMU && pgsize_serve_type1v2()) ||
	       (arg == VFIO_TYPE1_IOMMU && pgsize_serve_type1());
}

/* VFIO_SET_IOMMU. VFIO goes on with the next driver. */
static void *lookout_open(unsigned long arg)
{
	pr_warn_ratelimited("process %d (%*pE) sets a type that vfio_iommu_type1, which was loaded later, is asked for first: load vfio_pgsize again when no VMM uses it\n",
			    task_tgid_nr(current), (int)strlen(current->group_leader->comm),
			    current->group_leader->comm);
	return ERR_PTR(-ENODEV);
}

static const struct vfio_iommu_driver_ops lookout = {
	.name = "vfio-pgsize-lookout",
	.owner = THIS_MODULE,
	.open = lookout_open,
	.ioctl = lookout_ioctl,
};

/* vfio_iommu_type1 began to load after us. Its notifications come one after the other. */
static bool is_later, is_registered;

static int notify(struct notifier_block *block, unsigned long state, void *data)
{
	struct module *module = data;

	if (strcmp(module->name, "vfio_iommu_type1"))
		return NOTIFY_DONE;
	switch (state) {
	case MODULE_STATE_COMING:
		is_later = true;
		break;
	case MODULE_STATE_LIVE:
		if (!is_later)
			break;
		pr_warn("vfio_iommu_type1 was loaded later: VFIO asks it first from now on\n");
		is_registered = !vfio_register_iommu_driver(&lookout);
		break;
	case MODULE_STATE_GOING:
		is_later = false;
		if (is_registered)
			vfio_unregister_iommu_driver(&lookout);
		is_registered = false;
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block notifier = {
	.notifier_call = notify,
};

void pgsize_lookout_init(void)
{
	if (pgsize_serve_type1v2() || pgsize_serve_type1())
		register_module_notifier(&notifier);
}

void pgsize_lookout_exit(void)
{
	if (pgsize_serve_type1v2() || pgsize_serve_type1())
		unregister_module_notifier(&notifier);
	if (is_registered)
		vfio_unregister_iommu_driver(&lookout);
}
